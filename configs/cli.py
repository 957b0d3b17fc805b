"""Command line and YAML to a checked `RunConfig`, by jsonargparse; every mistake becomes one `UserError` line."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from configs.errors import UserError
from configs.keys import ScoreKind, allowed, known_keys, one_line, unknown_key
from configs.rules import check
from configs.schema import RunConfig, Stage

CONFIGS = Path(__file__).resolve().parent
DEFAULT_CONFIG = "quickstart.yaml"

set_parsing_settings(docstring_parse_attribute_docstrings=True)


@dataclass(frozen=True)
class Request:
    """What one command asks for: the configuration, the stages to run and whether results may be replaced."""

    config: RunConfig
    stage: Stage
    overwrite: bool
    source: str
    """The configuration file, as the user named it."""


@dataclass(frozen=True)
class ScoreRequest:
    """Official metrics of files, and nothing else."""

    kind: str
    hyp: str
    ref: str
    json: str | None
    metrics: list[str] | None


@dataclass(frozen=True)
class ShowRequest:
    """The result and ranks of a run as tables."""

    folder: str


@dataclass(frozen=True)
class WorkspaceRequest:
    """A saved wandb view for the project of a run."""

    folder: str


Command = Request | ScoreRequest | ShowRequest | WorkspaceRequest


def shipped_configs() -> list[str]:
    """Names of the YAML files in configs/."""
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> Path:
    """Path of a config: as given, or a bare file name looked up in configs/.

    Raises UserError when there is no such file, with the shipped names.
    """
    for path in (Path(name), CONFIGS / name):
        if path.is_file():
            return path
    raise UserError(f"--config: no file {name!r} here or in configs/. Shipped: {', '.join(shipped_configs())}")


class _ConfigFile(ActionConfigFile):
    """`--config` that also looks bare names up in configs/."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(values)
        _refuse_unknown_keys(path)
        try:
            super().__call__(parser, cfg, str(path), option_string)
        except (ArgumentError, TypeError, ValueError) as error:
            raise UserError(f"{path}: {one_line(str(error))}") from error


def _refuse_unknown_keys(path: Path) -> None:
    """Raises UserError for a key that is none. jsonargparse finds it too, but no longer knows in which file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # jsonargparse says what is wrong, with the place
    names = allowed()
    sections = {name.rsplit(".", n)[0] for name in names for n in range(1, name.count(".") + 1)}

    def look(tree: Any, prefix: str) -> None:
        for key, value in tree.items() if isinstance(tree, dict) else ():
            name = f"{prefix}{key}"
            if name in sections:
                look(value, f"{name}.")
            elif name not in names:
                raise UserError(f"{path}: {unknown_key(_first_leaf(name, value))}")

    look(content, "")


def _first_leaf(name: str, value: Any) -> str:
    """`serch` with {steps: 3} below it -> `serch.steps`, which tells more of what was meant."""
    return f"{name}.{next(iter(value))}" if isinstance(value, dict) and value else name


def build_parser() -> ArgumentParser:
    """The command line: three switches and every field of `RunConfig` as --section.key."""
    parser = ArgumentParser(
        prog="run.py",
        exit_on_error=False,
        description="Learn the LoRA rank of each layer (search), retrain at those ranks, export a plain PEFT adapter.",
    )
    parser.add_argument(
        "--config",
        action=_ConfigFile,
        help=f"YAML file; a bare name is looked up in configs/ (unset: {DEFAULT_CONFIG}).",
    )
    parser.add_argument(
        "--stage", type=Stage, default="all", help="all, or one of: search (ends with ranks.json), retrain, report."
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace what the asked stages wrote before in this run's folder; search clears the retraining, too.",
    )
    parser.add_argument("--show", type=str | None, help="Print the result and ranks of a run folder; runs nothing.")
    parser.add_argument(
        "--workspace", type=str | None, help="Save a wandb view for the project of this run folder; runs nothing."
    )
    parser.add_argument(
        "--score", type=ScoreKind | None, help="Score files with the official metrics (--hyp, --ref); runs nothing."
    )
    parser.add_argument("--hyp", type=str | None, help="With --score: the system's output.")
    parser.add_argument("--ref", type=str | None, help="With --score: the references (webnlg: also a folder).")
    parser.add_argument("--json", type=str | None, help="With --score: also write the values to this file.")
    parser.add_argument("--metrics", type=list[str] | None, help="With --score: only these, as [BLEU,NIST].")
    parser.add_class_arguments(RunConfig, None)
    return parser


@cache
def _parser() -> ArgumentParser:
    """For `with_values`: a study makes one configuration after the other."""
    return build_parser()


def parse(argv: Sequence[str]) -> Request:
    """`parse_command` for a command line that runs something."""
    request = parse_command(argv)
    assert isinstance(request, Request)
    return request


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
        _check_sections(parsed)
        values = parser.instantiate(parsed)
    except ArgumentError as error:
        raise UserError(one_line(str(error))) from error
    if parsed.score:
        missing = [name for name in ("hyp", "ref") if not parsed[name]]
        if missing:
            raise UserError(f"--score {parsed.score}: needs --{missing[0]} FILE")
        return ScoreRequest(parsed.score, parsed.hyp, parsed.ref, parsed.json, parsed.metrics)
    alone = [name for name in ("hyp", "ref", "json", "metrics") if parsed[name] is not None]
    if alone:
        raise UserError(
            f"--{alone[0]}: belongs to --score" + ("; did you mean --task.metrics?" if alone[0] == "metrics" else "")
        )
    if parsed.show:
        return ShowRequest(parsed.show)
    if parsed.workspace:
        return WorkspaceRequest(parsed.workspace)
    fields = {f.name: values[f.name] for f in dataclasses.fields(RunConfig)}
    if fields["name"] is None:
        fields["name"] = Path(source).stem
    config = RunConfig(**fields)
    check(config)
    return Request(config, parsed.stage, parsed.overwrite, source)


def _check_sections(parsed: Namespace) -> None:
    """jsonargparse lets a plain value through where a section belongs, and fails on it later."""
    for section, kind in typing.get_type_hints(RunConfig).items():
        if dataclasses.is_dataclass(kind) and not isinstance(parsed[section], Namespace):
            key = f"{section}.{dataclasses.fields(kind)[0].name}"
            raise UserError(f"{section}: {parsed[section]!r} is not allowed; allowed: keys with values, as {key}")


def _named_config(arguments: Sequence[str]) -> str | None:
    """What the last --config names."""
    named = [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
    named += [value for flag, value in pairwise(arguments) if flag == "--config"]
    return named[-1] if named else None


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some keys changed, checked as if they had come from the command line.

    Raises UserError for an unknown key or a value that is not allowed.
    """
    unknown = [key for key in values if key not in known_keys()]
    if unknown:
        raise UserError(unknown_key(unknown[0]))
    tree = dataclasses.asdict(config)
    for key, value in values.items():
        # jsonargparse takes null in an object for "not given".
        if value is None and type(None) not in typing.get_args(known_keys()[key]):
            raise UserError(f"--{key}: null is not allowed; allowed: {allowed()[key]}")
        *path, leaf = key.split(".")
        reduce(lambda node, part: node[part], path, tree)[leaf] = value
    parser = _parser()
    try:
        parsed = parser.instantiate(parser.parse_object(tree))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(one_line(str(error))) from error
    changed = RunConfig(**{f.name: parsed[f.name] for f in dataclasses.fields(RunConfig)})
    check(changed)
    return changed


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML text, every field filled in; `--config` reads it back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
