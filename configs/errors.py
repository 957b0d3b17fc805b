"""The one error that a user is meant to read."""


class UserError(Exception):
    """What the user must change: one line that names the thing, what was given and what is allowed; exit code 2."""
