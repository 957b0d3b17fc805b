"""The command line; every mistake is a UserError of one line."""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, get_args

from autolora.configs.errors import UserError
from autolora.configs.files import DEFAULT_CONFIG, find_config, load, parse_yaml, to_yaml
from autolora.configs.layers import flat
from autolora.configs.locations import CONFIGS, from_home
from autolora.configs.pages import help_text, json_schema
from autolora.configs.requests import Command, Request, ShowRequest, Trainer, WorkspaceRequest
from autolora.configs.schema import Stage


class Parser(argparse.ArgumentParser):
    """Tells a mistake as one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))


def _switches() -> Parser:
    """What a command line takes beside the keys of the settings."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--stage", choices=get_args(Stage), default="all")
    parser.add_argument("--for", choices=get_args(Trainer), dest="trainer")
    parser.add_argument("--show")
    parser.add_argument("--workspace")
    for name in ("overwrite", "list", "print_config", "print_schema", "help"):
        parser.add_argument(f"--{name}", *["-h"] * (name == "help"), action="store_true")
    return parser


def parse_command(argv: Sequence[str]) -> Command:
    """What a command line asks for; without --config the quickstart is run. The order of words
    means nothing.

    Raises UserError; SystemExit(0) after --help, --print_config and --print_schema.
    """
    asked, rest = _switches().parse_known_args(argv)
    if asked.help:
        print(help_text())
        raise SystemExit(0)
    if asked.print_schema:
        print(json_schema())
        raise SystemExit(0)
    if asked.show:
        return ShowRequest(from_home(asked.show), asked.trainer)
    if asked.workspace:
        return WorkspaceRequest(from_home(asked.workspace))
    if asked.trainer:
        raise UserError("--for: belongs to --show")
    paths = list(map(find_config, asked.config)) or [CONFIGS / DEFAULT_CONFIG]
    command = flat((key, value_of(word, f"--{key}")) for key, word in options(rest))
    # all trials share the file
    trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    config, dropped = load(paths, command, f"{paths[-1].stem}-{trial}" if trial else "")
    if asked.print_config:
        print(to_yaml(config), end="")
        raise SystemExit(0)
    named = ", ".join(path.name for path in paths)
    note = f"{named}: left out what does not belong to this command's choices: {', '.join(dropped)}"
    notes = (note,) if dropped else ()
    return Request(config, asked.stage, asked.overwrite, frozenset(command), notes, asked.list)


def options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and value of each option, whether written `--key value` or `--key=value`."""
    words = iter(argv)
    for word in words:
        key, equals, value = word.partition("=")
        if not key.startswith("--"):
            meant = (
                f"did you mean --config {key}?"
                if key.endswith((".yaml", ".yml"))
                else "allowed: --KEY VALUE"
            )
            raise UserError(f"{key!r:.80} belongs to no option; {meant}")
        found = value if equals else next(words, None)
        if found is None:
            raise UserError(f"{key}: needs a value")
        yield key[2:], found


def value_of(word: str, place: str) -> Any:
    """A word of the command line: YAML where it is null, a list or braces, else a text, which
    pydantic converts."""
    is_path = word.startswith(("{runs}", "{seed}", "{task}"))
    return (
        parse_yaml(word, place)
        if word == "null" or (word[:1] in ("[", "{") and not is_path)
        else word
    )
