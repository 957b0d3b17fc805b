"""The command line, by jsonargparse; every mistake is a UserError of one line."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, set_parsing_settings

from configs.errors import UserError
from configs.files import find_config, read_keys
from configs.keys import SWITCHES, one_line
from configs.requests import Command, Request, ScoreRequest, ShowRequest, WorkspaceRequest
from configs.schema import RunConfig
from configs.values import checked

DEFAULT_CONFIG = "quickstart.yaml"

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parse_command(argv: Sequence[str]) -> Command:
    """What a command line asks for.

    Without --config it is the quickstart. Raises UserError for anything that can be known to be wrong before a model
    is loaded; SystemExit(0) after --help and --print_config.
    """
    arguments = list(argv)
    source = _named_config(arguments)
    if source is None:
        source = DEFAULT_CONFIG
        arguments = ["--config", source, *arguments]
    parser = build_parser()
    try:
        parsed = parser.parse_args(arguments)
        fields = parser.instantiate(parsed)
    except ArgumentError as error:
        raise UserError(one_line(str(error))) from error
    if parsed.score:
        missing = next((name for name in ("hyp", "ref") if not parsed[name]), None)
        if missing:
            raise UserError(f"--score {parsed.score}: needs --{missing} FILE")
        return ScoreRequest(parsed.score, parsed.hyp, parsed.ref, parsed.json, parsed.metrics)
    alone = next((name for name in ("hyp", "ref", "json", "metrics") if parsed[name] is not None), None)
    if alone:
        hint = "; did you mean --task.metrics?" if alone == "metrics" else ""
        raise UserError(f"--{alone}: belongs to --score{hint}")
    if parsed.show:
        return ShowRequest(parsed.show)
    if parsed.workspace:
        return WorkspaceRequest(parsed.workspace)
    return Request(checked(fields, Path(source).stem), parsed.stage, parsed.overwrite, source)


def parse(argv: Sequence[str]) -> Request:
    """`parse_command` for a command line that runs something."""
    request = parse_command(argv)
    assert isinstance(request, Request)
    return request


def _named_config(arguments: Sequence[str]) -> str | None:
    """What the last --config names."""
    named = [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
    named += [value for flag, value in pairwise(arguments) if flag == "--config"]
    return named[-1] if named else None


class _ConfigFile(ActionConfigFile):
    """`--config` that also looks bare names up in configs/."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(values)
        read_keys(path)  # jsonargparse refuses unknown keys too, but no longer knows in which file
        try:
            super().__call__(parser, cfg, str(path), option_string)
        except (ArgumentError, TypeError, ValueError) as error:
            raise UserError(f"{path}: {one_line(str(error))}") from error


def build_parser() -> ArgumentParser:
    """The command line: the switches and every field of `RunConfig` as --section.key."""
    parser = ArgumentParser(
        prog="run.py",
        exit_on_error=False,
        # `--lora.rank 6` would be taken for --lora.ranks_from, and `--conf x.yaml` lie below the quickstart.
        allow_abbrev=False,
        description="Learn the LoRA rank of each layer (search), retrain at those ranks, export a plain PEFT adapter.",
    )
    parser.add_argument(
        "--config",
        action=_ConfigFile,
        help=f"YAML file; a bare name is looked up in configs/ (unset: {DEFAULT_CONFIG}).",
    )
    for name, (kind, text) in SWITCHES.items():
        if kind is bool:
            parser.add_argument(f"--{name}", action="store_true", help=text)
        else:
            default = "all" if name == "stage" else None
            parser.add_argument(f"--{name}", type=kind if default else kind | None, default=default, help=text)
    parser.add_class_arguments(RunConfig, None)
    return parser
