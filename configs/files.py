"""Configurations as YAML files: finding, reading and writing them."""

import dataclasses
import difflib
import os
import re
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.keys import MOST_HINTS, SPELLED, SWITCHES, TWO_NAMES, allowed, as_written, either, shortened
from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig
from autolora.configs.unknown import unknown_key
from autolora.configs.values import from_tree
from autolora.configs.yaml_text import read_yaml, to_text

CONFIGS = Path(__file__).resolve().parent
DEFAULT_CONFIG = "quickstart.yaml"
"""The configuration of a command without --config."""


def shipped_configs() -> list[str]:
    """Names of the YAML files in configs/."""
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> Path:
    """Path of a config: as given, or a bare file name looked up in configs/.

    Raises UserError when there is no such file, with the files that are near, or else with the shipped names.
    """
    for path in (Path(from_home(name)), CONFIGS / name):
        if _is_file(path):
            return path
    near = [shlex.quote(shortened(other)) for other in _near(name)]
    hint = f"; did you mean {either(near)}?" if near else f". Shipped: {', '.join(shipped_configs())}"
    raise UserError(f"--config: no file {shortened(name)!r} here or in configs/{hint}")


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # the name is too long for the file system, or the folder cannot be read
        return path.is_file()
    return False


def _near(name: str) -> list[str]:
    """The files that the user may have meant by a name that is none: without its ending, of a run's folder instead of
    its config.yaml, with a folder before the shipped name, or with a part of that name left out or misspelt."""
    given = from_home(name)
    if here := [
        other
        for other in (f"{given}.yaml", f"{given}.yml", os.path.join(given, "config.yaml"))
        if _is_file(Path(other))
    ]:
        return [os.path.normpath(here[0])]
    stem = re.sub(r"[.]ya?ml$", "", Path(given).name)
    stems = [shipped.removesuffix(".yaml") for shipped in shipped_configs()]
    if stem in stems:
        return [f"{stem}.yaml"]
    parts = [other for other in stems if len(stem) > 2 and stem in other]
    return [f"{other}.yaml" for other in parts or difflib.get_close_matches(stem, stems, n=MOST_HINTS, cutoff=0.8)]


def load_config(path: Path, values: Mapping[str, Any] | None = None) -> RunConfig:
    """The checked configuration in a YAML file, with `values` (dotted key -> value) in place of the file's own.

    A configuration without a name takes the file's name. The keys stage and overwrite are skipped. Raises UserError,
    which names the file, for everything that the command line refuses and for a request to show or score.
    """
    tree = {key: value for key, value in read_keys(path).items() if key not in ("stage", "overwrite")}
    if "config" in tree:
        raise UserError(f"{path}: config: is not allowed in a file of settings; leave it out")
    if tree.keys() & SWITCHES.keys():
        raise UserError(f"{path}: holds a request to show or score, not the settings of a run")
    try:
        return from_tree(tree, values or {}, path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_keys(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file for `--config`; the values are not checked.

    Raises UserError, which names the file, if it holds anything other than keys with values, an unknown key, or the
    same key twice.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: needs keys with values; holds {as_written(content)}")
    check_keys(path, content)
    overwrite = content.get("overwrite", False)
    if not isinstance(overwrite, bool):  # jsonargparse reads the text 'no' as false
        raise UserError(f"{path}: overwrite: {as_written(overwrite)} is not allowed; allowed: true or false")
    return content


def check_keys(place: Path | str, tree: dict[Any, Any]) -> None:
    """Renames the keys of SPELLED in a tree of keys with values to their fields. Raises UserError, which names the
    `place` that holds the tree, for an unknown key, and for a section that has no keys."""
    for given, field in SPELLED.items():
        _rename(place, tree, given, field)
    _check_keys(place, tree, allowed())


def _rename(place: Path | str, content: dict[Any, Any], given: str, field: str) -> None:
    """Renames the key `given` to `field`, for example answer.from to answer.from_run.

    The key may be inside its section, or at the top under its full dotted name. Raises UserError if both names are
    given.
    """
    section, _, key = given.partition(".")
    inside, name = content.get(section), field.rpartition(".")[2]
    places = [(content, given, field), (content, field, field)]
    places += [(inside, key, name), (inside, name, name)] if isinstance(inside, dict) else []
    found = [spot for spot in places if spot[1] in spot[0]]
    if len(found) > 1:
        raise UserError(f"{place}: {given} and {field} {TWO_NAMES}")
    for tree, written, renamed in found:
        tree[renamed] = tree.pop(written)


def _check_keys(place: Path | str, tree: Mapping[Any, Any], known: Collection[str], prefix: str = "") -> None:
    """Raises UserError for an unknown key, and for a section that holds anything other than keys with values."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        below = [other for other in known if other.startswith(f"{name}.")]
        if below and not isinstance(value, dict):
            raise UserError(
                f"{place}: {name}: {as_written(value)} is not allowed; allowed: keys with values, such as {below[0]}"
            )
        if below:
            _check_keys(place, value, below, f"{name}.")
        elif name not in known:
            # The hint is better for a misspelt section together with its first key (serch.steps) than for it alone.
            parts = [name, *map(str, value)][:2] if isinstance(value, dict) else [name]
            raise UserError(f"{place}: {unknown_key('.'.join(parts))}")


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML text, every field filled in; `--config` reads it back."""
    return to_text(dataclasses.asdict(config))
