"""What all benchmarks share: settings from the command line, tables, and a JSON file that describes the machine."""

import dataclasses
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.configs.keys import split_range, takes
from autolora.configs.plain import plain
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.run.resources import own_cores

ROOT = Path(__file__).resolve().parent.parent

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # --help shows what stands below each setting


@dataclass(frozen=True)
class Settings:
    """What each benchmark can be told; its own settings are a subclass. A field's type may have a range
    (configs/ranges.py)."""

    json: str | None = None
    """File that gets the numbers."""

    AT_LEAST: ClassVar[Mapping[str, int]] = {}
    """Setting -> its least allowed value, also of every entry of a list; such a list may not be empty."""
    PICTURES: ClassVar[Sequence[str]] = ()
    """The settings that name a PNG file to write."""


S = TypeVar("S", bound=Settings)
Measure = Callable[[S], tuple[dict[str, Any], list[Table]]]
"""Takes the settings; returns the numbers for the JSON file, and the tables that show them."""


def main(settings_class: type[S], measure: Measure[S], argv: Sequence[str] | None = None) -> int:
    """Runs one benchmark, prints its tables, and writes its numbers. Returns the exit code."""
    from autolora.engine.terminal.console import console, show_log
    from autolora.engine.terminal.loading import quiet_libraries

    show_log()
    quiet_libraries()
    try:
        settings = parse_settings(settings_class, sys.argv[1:] if argv is None else argv)
        numbers, tables = measure(settings)
    except UserError as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        return 2
    for table in tables:
        console.print(table)
    if settings.json is not None:
        whole = numbers | {"settings": dataclasses.asdict(settings), "machine": machine()}
        write_json(Path(settings.json), _without_nan(whole))
    return 0


def _without_nan(value: Any) -> Any:
    """The value with null for each number that is not known, as JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def parse_settings(settings_class: type[S], argv: Sequence[str]) -> S:
    """The settings that the command line gives. Raises UserError for a wrong argument."""
    module = sys.modules[settings_class.__module__]
    spec = getattr(module, "__spec__", None)
    parser = ArgumentParser(
        prog=f"python -m {spec.name.removesuffix('.__main__') if spec else settings_class.__module__}",
        exit_on_error=False,
        allow_abbrev=False,
        description=module.__doc__,
    )
    parser.add_class_arguments(settings_class, None)
    try:
        parsed = parser.instantiate(parser.parse_args(list(argv)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(_in_words(" ".join(str(error).split()), settings_class)) from error
    settings = settings_class(**{field.name: parsed[field.name] for field in dataclasses.fields(settings_class)})
    for name, kind in get_type_hints(settings_class, include_extras=True).items():
        if (limits := split_range(kind)[1]) and not limits.holds(getattr(settings, name)):
            raise UserError(f"--{name}: {getattr(settings, name)!r} is not allowed; allowed: {limits.words}")
    for name, least in settings.AT_LEAST.items():
        value = getattr(settings, name)
        if isinstance(value, list) and not value:
            raise UserError(f"--{name}: [] is not allowed; allowed: a list of one or more")
        for number in value if isinstance(value, list) else [value]:
            if number < least:
                raise UserError(f"--{name}: {number!r} is not allowed; allowed: {least} or more")
    for name in ("json", *settings.PICTURES):
        if (file := getattr(settings, name)) is not None:
            _refuse_unwritable(name, file, picture=name in settings.PICTURES)
    return settings


def _in_words(said: str, settings_class: type[Settings]) -> str:
    """What jsonargparse says about a value of a wrong type, as the program says it; other messages as they are."""
    found = re.search(r'^Parser key "(?P<key>\w+)": .* value: (?P<value>.*)$', said)
    kinds = get_type_hints(settings_class, include_extras=True)
    if found is None or found["key"] not in kinds:
        return said
    return f"--{found['key']}: {found['value']} is not allowed; allowed: {takes(kinds[found['key']])}"


def refuse_unknown(name: str, asked: Iterable[str], allowed: Sequence[str]) -> None:
    """Raises UserError for the first of the names in a setting that is not an allowed one."""
    for one in asked:
        if one not in allowed:
            raise UserError(f"--{name}: {one!r} is not allowed; allowed: {', '.join(allowed)}")


def _refuse_unwritable(name: str, file: str, *, picture: bool) -> None:
    """Raises UserError for a file that cannot be written, before a measurement that may take hours."""
    path = Path(file).absolute()
    if picture and path.suffix != ".png":
        raise UserError(f"--{name}: {file} is not allowed; allowed: a name that ends with .png")
    folder = next(parent for parent in path.parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UserError(f"--{name}: {file} cannot be written; allowed: a file in a folder that can be written to")


def table_of(title: str, *columns: str, left: int = 1, caption: str | None = None) -> Table:
    """A table without rows. The first `left` columns stand to the left, and the others, with numbers, to the right."""
    table = Table(title=title, caption=caption)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right")
    return table


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, versions and commit that the numbers belong to."""
    import torch

    from autolora.engine.run.program import commit
    from autolora.engine.run.resources import processor, versions

    cuda = torch.cuda.is_available()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": own_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "load_average": list(os.getloadavg()),
        "versions": versions(),
        "commit": commit(),
    }


def measured_apart(module: str, settings: Settings, only: Any) -> dict[str, Any]:
    """The numbers that a benchmark measures in a process of its own, with its setting `only`."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "numbers.json"
        child(module, vars(settings) | {"only": only, "json": place})
        return {key: value for key, value in read_json(place).items() if key not in ("settings", "machine")}


def child(module: str, arguments: Mapping[str, Any]) -> None:
    """Runs `python -m module --key value ...` in a process of its own, which shares nothing with this one.

    Raises UserError with its line when it refuses the arguments, RuntimeError with the end of its stderr when it
    fails.
    """
    words = [part for key, value in arguments.items() for part in (f"--{key}", _word(value))]
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        raise UserError(done.stderr.strip().splitlines()[-1].rpartition("error: ")[2])
    if done.returncode != 0:
        raise RuntimeError(f"{module} ended with code {done.returncode}: {done.stderr.strip()[-2000:]}")


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
