"""Tools for chapters: they run them with other parameters, make pages of them, and give the numbers in their prose."""
