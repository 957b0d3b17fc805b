"""Where a configured model or data set lies: on the hub, in an installed package, or on this machine."""

import os
from pathlib import Path

PACKAGE = "package:"


def from_home(name: str) -> str:
    """A configured path, in which the user's home replaces a '~' at the beginning: in a file, no shell does that."""
    return os.path.expanduser(name)


def is_local(name: str) -> bool:
    """Whether a configured model lies on this machine: in a folder, in a file or in a package."""
    return name.startswith(PACKAGE) or Path(from_home(name)).exists()


def portable_name(name: str) -> str | None:
    """The configured name if other machines find the same model under it (hub or package); None for a local folder."""
    return name if name.startswith(PACKAGE) or not is_local(name) else None
