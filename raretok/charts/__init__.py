"""Charts, with one module for each finding; a function takes a table and returns an ``alt.Chart``.

The module ``theme`` determines how charts look and how pages draw them.
"""
