"""Configurations as YAML files: finding, reading and writing them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from autolora.configs.errors import UserError
from autolora.configs.layers import Settled, flat, settled
from autolora.configs.locations import CONFIGS, from_home
from autolora.configs.schema import RunConfig

DEFAULT_CONFIG = "quickstart.yaml"
"""The configuration of a command without --config."""
_OF_A_FOLDER = (
    "# The settings of the run or the study in this folder, all keys filled in; --config "
    "takes this file.\n"
)
"""First line of a config.yaml, which has neither name nor runs_folder: they follow from where the
folder lies now."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [
            key.value
            for key, _ in node.value
            if isinstance(key, yaml.ScalarNode) and key.value != "<<"
        ]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {twice[0]} is given twice; give it once"
            )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, place: Path | str) -> Any:
    """The values in a text of YAML. Raises UserError, which names the `place` that holds it."""
    try:
        return yaml.load(text, Loader=_Loader)
    # ValueError: a number of too many digits
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{place}: not readable as YAML ({' '.join(str(error).split())[:300]})"
        ) from error


def to_text(values: Any) -> str:
    """The values as YAML text, in their order; `parse_yaml` reads them back."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def shipped_configs() -> list[str]:
    """Names of the YAML files in configs/."""
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> Path:
    """Path of a config: as given, or a bare file name looked up in configs/. Raises UserError if
    there is none."""
    for path in (Path(from_home(name)), CONFIGS / name):
        if path.is_file():
            return path
    raise UserError(
        f"--config: no file {name!r:.120} here or in configs/; shipped: "
        f"{', '.join(shipped_configs())}"
    )


def read_keys(path: Path) -> dict[str, Any]:
    """The dotted keys of a YAML file, whose values are not checked. Raises UserError, which names
    the file."""
    text = path.read_text(encoding="utf-8")
    content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: needs keys with values")
    if text.startswith(_OF_A_FOLDER):
        folder = path.parent if path.parent.name else Path.cwd()
        name = folder.name.removeprefix(".").removesuffix(".new")  # of half-done new results
        content = {"name": name, "runs_folder": str(folder.parent)} | content
    try:
        return flat({str(key): value for key, value in content.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def load(paths: Sequence[Path], command: Mapping[str, Any], name: str = "") -> Settled:
    """The settings of files, the last of which wins, and of a command over them. A run that is
    given no name takes `name`, else the last file's. Raises UserError, which names the file whose
    mistake it is."""
    layers = [read_keys(path) for path in paths]
    try:
        return settled([{"name": name or paths[-1].stem}, *layers], command)
    except UserError:
        for path, layer in zip(paths, layers, strict=True):
            try:
                settled([layer])
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
        raise


def load_config(path: Path, values: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
    """The configuration in a YAML file, with `values` (dotted key -> value) in place of the file's
    own."""
    return load([path], values).config


def of_folder(config: RunConfig) -> str:
    """The content of config.yaml in the folder of a run or a study."""
    return _OF_A_FOLDER + to_text(config.model_dump(mode="json", exclude={"name", "runs_folder"}))


def describes_a_folder(path: Path) -> bool:
    """Whether a file is the config.yaml of a run or a study."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(
        _OF_A_FOLDER
    )


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML text, every key filled in; `--config` reads it back."""
    return to_text(config.model_dump(mode="json"))
