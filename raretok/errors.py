"""The one exception a user of the package is meant to see."""


class RaretokError(Exception):
    """Something the user can mend; the message says what was got, what was wanted and what to do."""
