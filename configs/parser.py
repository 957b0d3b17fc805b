"""The command line; every mistake is a UserError of one line."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS, DEFAULT_CONFIG, find_config, parse_yaml, read_keys, to_yaml
from autolora.configs.layers import flat, settled, takes_one_word, tree_of
from autolora.configs.pages import help_text, json_schema
from autolora.configs.places import from_home
from autolora.configs.requests import (
    Command,
    Request,
    ShowRequest,
    Trainer,
    WorkspaceRequest,
)
from autolora.configs.schema import Stage

_INSTEAD = ("show", "workspace")
_ALLOWED: dict[str, tuple[str, ...]] = {
    "stage": get_args(Stage), "for": get_args(Trainer), "overwrite": ("true", "false"),
}  # fmt: skip


def parse_command(argv: Sequence[str]) -> Command:
    """What a command line asks for; without --config the quickstart is run. The order of words means nothing.

    Raises UserError; SystemExit(0) after --help, --print_config and --print_schema.
    """
    words = list(options(argv))
    files = [value for key, value in words if key == "config"]
    names = [key for key, _ in words if key != "config"]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--{twice[0]}: is given twice; give it once")
    given = {key: value for key, value in words if key != "config"}
    if "help" in given:
        print(help_text())
        raise SystemExit(0)
    if "print_schema" in given:
        print(json_schema())
        raise SystemExit(0)
    for key, allowed in _ALLOWED.items():
        if key in given and given[key] not in allowed:
            raise UserError(f"--{key}: {given[key]!r:.80} is not allowed; allowed: {', '.join(allowed)}")
    if other := _other_request(given):
        return other
    prints = given.pop("print_config", None) is not None
    stage, overwrite = given.pop("stage", "all"), given.pop("overwrite", "false") == "true"
    lists = given.pop("list", None) is not None
    request = replace(_run(files, given, stage, overwrite=overwrite), lists=lists)
    if prints:
        print(to_yaml(request.config), end="")
        raise SystemExit(0)
    return request


def parse(argv: Sequence[str]) -> Request:
    """`parse_command` for a command line that runs something."""
    request = parse_command(argv)
    assert isinstance(request, Request)
    return request


def _run(files: Sequence[str], given: dict[str, str], stage: Any, *, overwrite: bool) -> Request:
    """The request to run with these files and the words of a command line, each a key of the settings."""
    source = files[-1] if files else DEFAULT_CONFIG
    paths = list(map(find_config, files)) or [CONFIGS / DEFAULT_CONFIG]
    trees: list[dict[str, Any]] = [{"name": _name_of(source)}, *map(read_keys, paths)]
    command = tree_of({key: value_of(word, f"--{key}") for key, word in given.items()})
    if command.get("name", "") is None:
        del command["name"]
    try:
        config, dropped = settled(trees, command)
    except UserError:
        for path, tree in zip(paths, trees[1:], strict=True):
            try:
                settled([trees[0], tree])
            except UserError as error:  # the mistake is the file's
                raise UserError(f"{path}: {error}") from error
        raise
    notes = []
    if dropped:
        keys = ", ".join(dropped[:4]) + (f" and {len(dropped) - 4} more" if len(dropped) > 4 else "")
        named = ", ".join(path.name for path in paths)
        notes = [f"{named}: left out what does not belong to this command's choices: {keys}"]
    return Request(config, stage, overwrite, source, frozenset(flat(command)), tuple(notes))


def _name_of(source: str) -> str:
    """The name of a run that is given none: that of its configuration file. In a wandb sweep, whose trials share the
    file, the id of the trial stands behind it."""
    trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return f"{Path(source).stem}-{trial}" if trial else Path(source).stem


def options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and value of each option, whether written `--key value` or `--key=value`; a switch may stand alone."""
    words = list(argv)
    while words:
        key, equals, value = words.pop(0).partition("=")
        if key in ("-h", "--help", "--print_config", "--print_schema", "--list"):
            yield key.lstrip("-").replace("h", "help", key == "-h"), "true"
            continue
        if not key.startswith("--"):
            meant = f"did you mean --config {key}?" if key.endswith((".yaml", ".yml")) else "allowed: --KEY VALUE"
            raise UserError(f"{key!r:.80} belongs to no option; {meant}")
        alone = not words or words[0].startswith("--")
        if not equals and alone and key != "--overwrite":
            raise UserError(f"{key}: needs a value")
        yield key[2:], value if equals else "true" if alone else words.pop(0)


def value_of(word: str, place: str) -> Any:
    """A word of the command line: YAML where it is null, a list or braces, else a text, which pydantic converts."""
    if word == "null" or (word[:1] in ("[", "{") and not takes_one_word(place.removeprefix("--"))):
        return parse_yaml(word, place)
    if word == "":  # as from an unset shell variable
        raise UserError(f"{place}: an empty text is not allowed")
    return word


def _other_request(given: dict[str, str]) -> Command | None:
    """A request to show or to save a view; None for a run."""
    asked = [name for name in _INSTEAD if name in given]
    if "for" in given and "show" not in given:
        raise UserError("--for: belongs to --show")
    if not asked:
        return None
    others = given.keys() - ({"show", "for"} if asked[0] == "show" else {asked[0]})
    if others:
        raise UserError(f"--{min(others)}: does nothing beside --{asked[0]}, which runs nothing")
    if asked[0] == "show":
        trainer: Any = given.get("for")
        return ShowRequest(from_home(given["show"]), trainer)
    return WorkspaceRequest(from_home(given["workspace"]))
