"""A class in a Python file of the user's own, which a setting names as FILE.py:CLASS."""

import hashlib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from autolora.configs.errors import UserError


def is_own(value: str) -> bool:
    """Whether a setting's value has the form FILE.py:CLASS."""
    return re.fullmatch(r".+\.py:[A-Za-z_]\w*", value) is not None


def _file(value: str) -> Path:
    return Path(value.rpartition(":")[0])


def digest(value: str) -> str | None:
    """The first 16 digits of the SHA-256 of the file in FILE.py:CLASS; None if `value` has another form, or the file
    does not exist."""
    file = _file(value)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if is_own(value) and file.is_file() else None


def user_class(value: str, key: str) -> type[Any]:
    """The class that `value` names as FILE.py:CLASS; the file is run, once a process.

    Raises UserError that names `key` if there is no such file, if the file fails, or if it defines no such class.
    """
    try:
        found: type[Any] = getattr(_module(_file(value).resolve()), value.rpartition(":")[2])
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"--{key}: {value} cannot be loaded ({type(error).__name__}: {said})") from error
    return found


@cache
def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"own_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look a class's module up
    spec.loader.exec_module(module)
    return module
