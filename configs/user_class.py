"""A class in a Python file of the user's own, which a setting names as FILE.py:CLASS."""

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError


def is_own(value: str) -> bool:
    """Whether a setting's value has the form FILE.py:CLASS."""
    return re.fullmatch(r".+\.py:[A-Za-z_]\w*", value) is not None


def file_of(value: str) -> Path:
    """The file in FILE.py:CLASS."""
    return Path(value.rpartition(":")[0]).resolve()


def user_class(value: str, key: str) -> type[Any]:
    """The class that `value` names as FILE.py:CLASS; the file is run, once a process.

    Raises UserError that names `key` if there is no such file, if the file fails, or if it defines
    no such class.
    """
    try:
        found: type[Any] = _module(file_of(value))[value.rpartition(":")[2]]
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"--{key}: {value} cannot be loaded ({type(error).__name__}: {said})"
        ) from error
    return found


@cache
def _module(path: Path) -> dict[str, Any]:
    return runpy.run_path(str(path), run_name=f"own_file_{path.stem}")
