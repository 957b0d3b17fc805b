"""The command line, by jsonargparse; every mistake is a UserError of one line."""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from autolora.configs.complaints import one_line
from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS, DEFAULT_CONFIG, find_config, read_keys
from autolora.configs.given import given_of
from autolora.configs.help import USAGE, Formatter, description
from autolora.configs.keys import SPELLED, SWITCHES, TWO_NAMES, flat, known_keys, refuse_huge, shortened, split_range
from autolora.configs.places import from_home
from autolora.configs.ranges import FilePath
from autolora.configs.requests import Command, Request, ScoreRequest, ShowRequest, WorkspaceRequest
from autolora.configs.schema import RunConfig
from autolora.configs.sections import with_sections_read
from autolora.configs.values import checked
from autolora.configs.yaml_text import to_text

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parse_command(argv: Sequence[str]) -> Command:
    """What a command line asks for.

    Without --config the quickstart is run. An option overrules the files, wherever it stands. Raises UserError for
    anything that can be known to be wrong before a model is loaded; SystemExit(0) after --help and --print_config.
    """
    _refuse_two_names(argv)
    argv = with_sections_read([_spelled(word) for word in argv])
    arguments = _files_first(argv)
    files = _named_configs(argv)
    source = files[-1] if files else DEFAULT_CONFIG
    refuse_huge(_options(arguments))
    parser = build_parser()
    try:
        # Defaults are left out, as filling them in and checking them would make jsonargparse ten times slower.
        parsed = parser.parse_args(arguments, defaults=_shows_defaults(arguments))
        given = parser.parse_args(_without_config(argv), defaults=False)
    except (ArgumentError, RecursionError) as error:
        raise UserError(one_line(str(error), arguments)) from error
    other = _other_request(parsed)
    if other is not None:
        switches = [key for key in ("stage", "overwrite") if given.get(key)]
        beside = next((key for key, _ in flat(given.as_dict()) if key in (*switches, *known_keys())), None)
        if beside:
            raise UserError(f"--{beside}: does nothing with --show, --workspace and --score, which run nothing")
        return other
    config = checked(parsed, _name_of(source))
    stage, overwrite = parsed.get("stage", "all"), parsed.get("overwrite", False)
    return Request(config, stage, overwrite, source, given_of(given.as_dict(), files, config))


def _name_of(source: str) -> str:
    """The name of a run that is given none: that of its configuration file. In a wandb sweep, whose trials share the
    file, the id of the trial stands behind it."""
    trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return f"{Path(source).stem}-{trial}" if trial else Path(source).stem


def _refuse_two_names(argv: Sequence[str]) -> None:
    """Raises UserError if the command line gives one key under both of its names (see SPELLED)."""
    keys = [key for key, _ in _options(argv)]
    for key, field in SPELLED.items():
        if key in keys and field in keys:
            raise UserError(f"--{key} and --{field} {TWO_NAMES}")


def _spelled(word: str) -> str:
    """A word of the command line, in which an option in SPELLED is renamed to its field."""
    option, equals, value = word.partition("=")
    key = option.removeprefix("--")
    return f"--{SPELLED[key]}{equals}{value}" if option != key and key in SPELLED else word


def _other_request(parsed: Namespace) -> ScoreRequest | ShowRequest | WorkspaceRequest | None:
    """A request to show, to score or to save a view; None for a run. Raises UserError for an incomplete request."""
    values = {name: parsed.get(name) for name in SWITCHES}
    values |= {
        name: from_home(values[name]) for name, (kind, _) in SWITCHES.items() if kind is FilePath and values[name]
    }
    for name, (kind, _) in SWITCHES.items():
        limits = split_range(kind)[1]
        if limits and values[name] is not None and not limits.holds(values[name]):
            raise UserError(f"--{name}: {shortened(values[name])!r} is not allowed; allowed: {limits.words}")
    asked = [name for name in ("score", "show", "workspace") if values[name] is not None]
    if len(asked) > 1:
        raise UserError(f"--{asked[1]}: does nothing beside --{asked[0]}; give one of them")
    if values["score"]:
        missing = next((name for name in ("hyp", "ref") if not values[name]), None)
        if missing:
            raise UserError(f"--score {values['score']}: needs --{missing} FILE")
        return ScoreRequest(*(values[name] for name in ("score", "hyp", "ref", "json", "metrics")))
    alone = next((name for name in ("hyp", "ref", "json", "metrics") if values[name] is not None), None)
    if alone:
        hint = "; did you mean --task.metrics?" if alone == "metrics" else ""
        raise UserError(f"--{alone}: belongs to --score{hint}")
    if values["for"] and not values["show"]:
        raise UserError("--for: belongs to --show RUN")
    if values["show"]:
        return ShowRequest(values["show"], values["for"])
    return WorkspaceRequest(values["workspace"]) if values["workspace"] else None


def parse(argv: Sequence[str]) -> Request:
    """`parse_command` for a command line that runs something."""
    request = parse_command(argv)
    assert isinstance(request, Request)
    return request


def _shows_defaults(arguments: Sequence[str]) -> bool:
    """Whether --print_config is among the arguments, alone or with a value such as =skip_null."""
    return any(word.partition("=")[0] == "--print_config" for word in arguments)


def _named_configs(arguments: Sequence[str]) -> list[str]:
    """The file that each --config names."""
    return [value for key, value in _options(arguments) if key == "config"]


def _files_first(argv: Sequence[str]) -> list[str]:
    """The arguments with every --config at their beginning, as jsonargparse lets a file overrule earlier options.

    Without --config it is the shipped quickstart, not a file of its name in the working folder."""
    files = _named_configs(argv) or [str(CONFIGS / DEFAULT_CONFIG)]
    if not all(file and not file.startswith("-") for file in files):  # a name is missing, which jsonargparse reports
        return list(argv)
    return [f"--config={file}" for file in files] + _without_config(argv)


def _without_config(arguments: Sequence[str]) -> list[str]:
    """The arguments without --config and its file."""
    kept = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in kept if "--config" not in (before, word) and not word.startswith("--config=")]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and value of the options of a command line, whether written `--key value` or `--key=value`."""
    for flag, value in pairwise([*arguments, ""]):
        if flag.startswith("--"):
            key, equals, after = flag.removeprefix("--").partition("=")
            yield key, after if equals else value


class _ConfigFile(ActionConfigFile):
    """`--config` that also looks bare names up in configs/."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(values)
        content = read_keys(path)  # jsonargparse refuses unknown keys too, but its message does not name the file
        given = dict(flat(content))
        # jsonargparse knows a key in SPELLED only under its field's name, so it must read the renamed content here. It
        # would read a file of keys without values, such as "name:", as a text.
        rewritten = any(field in given for field in SPELLED.values()) or all(
            value is None for value in content.values()
        )
        try:
            refuse_huge(given.items())
            super().__call__(parser, cfg, to_text(content) if rewritten else str(path), option_string)
        except (ArgumentError, TypeError, ValueError, UserError) as error:
            raise UserError(f"{path}: {one_line(str(error))}") from error


@cache
def build_parser() -> ArgumentParser:
    """The command line: the switches and every field of `RunConfig` as --section.key."""
    parser = ArgumentParser(
        prog="run.py",
        exit_on_error=False,
        # Abbreviations mislead: `--lora.rank 6` would set --lora.ranks_from, and with `--conf x.yaml` the quickstart
        # would run with the keys of x.yaml changed.
        allow_abbrev=False,
        usage=USAGE,
        description=description(),
        formatter_class=Formatter,
    )
    others = parser.add_argument_group("instead of a run")
    parser.add_argument(
        "--config",
        action=_ConfigFile,
        help=f"YAML file; a bare name is looked up in configs/ (unset: {DEFAULT_CONFIG}).",
    )
    for name, (annotation, text) in SWITCHES.items():
        kind, _ = split_range(annotation)
        group = parser if name in ("stage", "overwrite") else others
        if kind is bool:
            group.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=False, help=text)
        else:
            default = "all" if name == "stage" else None
            group.add_argument(f"--{name}", type=kind if default else kind | None, default=default, help=text)
    parser.add_class_arguments(RunConfig, None)
    sections = {key.rpartition(".")[0] for key in known_keys()}
    for section, fields in (parser.groups or {}).items():
        if section in sections:
            fields.title = f"--{section}.*: {fields.title}"
    return parser
