"""``python -m raretok``: the command line."""

from raretok.cli import main

main()
