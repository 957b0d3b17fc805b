"""Where a configured model lies: on the hub, in an installed package, in a local folder."""

from pathlib import Path

PACKAGE = "package:"


def is_local(name: str) -> bool:
    """Whether a configured model lies on this machine: in a folder, in a file or in a package."""
    return name.startswith(PACKAGE) or Path(name).expanduser().exists()


def portable_name(name: str) -> str | None:
    """The configured name where another machine finds the model under it, too: on the hub or in a package; None for a
    local folder."""
    return name if name.startswith(PACKAGE) or not is_local(name) else None
