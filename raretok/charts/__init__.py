"""Charts: one module a finding, a table in, an ``alt.Chart`` out; ``theme`` is how they look and how pages draw them."""
