"""Where a configured model or data set lies: on the hub, in an installed package, or on this
machine."""

import importlib.util
import os
import re
from pathlib import Path

from autolora.configs.errors import UserError

CONFIGS = Path(__file__).resolve().parent
"""Where the shipped files of settings and the sample lie."""
PACKAGE = "package:"
GGUF = ".gguf"


def from_home(name: str) -> str:
    """A configured path, in which the user's home replaces a '~' at the beginning: in a file, no
    shell does that."""
    return os.path.expanduser(name)


def is_hub_name(path: str) -> bool:
    """Whether a path of rows names a repository of the hub, as `owner/name`: nothing lies there on
    this machine, and it does not end like the name of a file, in a dot and a short word (unlike
    Llama-3.1-Filtered)."""
    like_a_file = re.fullmatch(r"\.[A-Z]+|\.[a-z][a-z0-9]*", Path(path).suffix)
    here = Path(from_home(path)).exists()
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", path)) and not like_a_file and not here


def short_name(path: str) -> str:
    """The last part of a path of rows; that of a file without its ending."""
    return Path(path).name if is_hub_name(path) else Path(path).stem


def portable_name(name: str) -> str | None:
    """The configured name if other machines find the same model under it (hub or package); None for
    a local folder."""
    return name if name.startswith(PACKAGE) or not Path(from_home(name)).exists() else None


def locate(name: str) -> str:
    """What transformers loads for a configured name: the folder if it begins with `package:`, else
    the name itself, in which the user's home replaces a '~' at the beginning.

    Raises UserError for a missing package, and for an adapter: transformers would load it with its
    base.
    """
    if not name.startswith(PACKAGE):
        path = from_home(name)
        if (Path(path) / "adapter_config.json").is_file():
            raise UserError(
                f"--model.name: {name} holds an adapter, not a model; name its base model"
            )
        return path
    package, _, folder = name.removeprefix(PACKAGE).partition("/")
    # does not run the package: some of them load their model on import
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"--model.name: no installed package {package!r}")
    return str(Path(spec.submodule_search_locations[0]) / folder)
