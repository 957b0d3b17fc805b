"""The one error that a user is meant to read, and the usual form of its message."""


class UserError(Exception):
    """Tells the user what to change, in one line: the thing, what was given, what is allowed. The
    exit code is 2."""
