"""Where a configured model lies: on the hub, in an installed package, or in a local folder."""

from pathlib import Path

PACKAGE = "package:"


def is_local(name: str) -> bool:
    """Whether a configured model lies on this machine: in a folder, in a file or in a package."""
    return name.startswith(PACKAGE) or Path(name).expanduser().exists()


def portable_name(name: str) -> str | None:
    """The configured name if other machines find the same model under it (hub or package); None for a local folder."""
    return name if name.startswith(PACKAGE) or not is_local(name) else None
