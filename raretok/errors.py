"""The exceptions that a user of the package is meant to see."""


class RaretokError(Exception):
    """An error that the user can fix; the message says what was given, what was expected and what to do."""


class NotApplicable(RaretokError):
    """A question that this model or text cannot answer; the message says why.

    A claim that reads such a table is *not applicable*.
    """
