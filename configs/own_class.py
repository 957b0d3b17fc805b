"""A class in a Python file of the user's own, which a setting names as FILE.py:CLASS."""

import hashlib
import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError

_OWN = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


def is_own(value: str) -> bool:
    """Whether a setting's value has the form FILE.py:CLASS."""
    return _OWN.fullmatch(value) is not None


def refuse_missing_file(value: str, key: str) -> None:
    """Raises UserError that names `key` if `value` has the form FILE.py:CLASS and there is no such file."""
    found = _OWN.fullmatch(value)
    if found is not None and not Path(found["file"]).is_file():
        raise UserError(f"--{key}: there is no file {found['file']}; allowed: FILE.py:CLASS with a file that exists")


def digest(value: str) -> str | None:
    """The first 16 digits of the SHA-256 of the file in FILE.py:CLASS; None if `value` has another form, or the file
    does not exist."""
    found = _OWN.fullmatch(value)
    if found is None or not Path(found["file"]).is_file():
        return None
    return hashlib.sha256(Path(found["file"]).read_bytes()).hexdigest()[:16]


def own_class(value: str, key: str) -> type[Any]:
    """The class that `value` names as FILE.py:CLASS; the file is run, once a process.

    A relative FILE is looked up in the current folder. Raises UserError that names `key` if there is no such file, if
    the file fails, or if it defines no such class.
    """
    found = _OWN.fullmatch(value)
    assert found is not None
    refuse_missing_file(value, key)
    classes = _classes(Path(found["file"]).resolve(), key)
    if found["name"] not in classes:
        raise UserError(
            f"--{key}: {found['file']} has no class {found['name']!r}; allowed: "
            f"{', '.join(sorted(classes)) or 'a class that the file defines'}"
        )
    return classes[found["name"]]


@cache
def _classes(path: Path, key: str) -> dict[str, type[Any]]:
    """Name -> class of all classes that the file defines itself."""
    name = f"own_file_{path.stem}_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        said = " ".join(str(error).split())
        raise UserError(f"--{key}: {path.name} cannot be loaded ({type(error).__name__}: {said})") from error
    return {k: v for k, v in vars(module).items() if inspect.isclass(v) and v.__module__ == name}
