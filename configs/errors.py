"""The one error that a user is meant to read, and the usual form of its message."""


class UserError(Exception):
    """Tells the user what to change, in one line: the thing, what was given, what is allowed. The exit code is 2."""


def refusal(key: str, value: object, where: str, allowed: str) -> str:
    """The message about a key's value that cannot be combined with another setting, which `where` names."""
    return f"--{key}: {value} is not allowed {where}; allowed: {allowed}"
