"""What all benchmarks share: settings from the command line, tables, and a JSON file that describes the machine."""

import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.configs.layers import fields_of, validated
from autolora.configs.parser import options, value_of
from autolora.configs.plain import plain
from autolora.configs.section import Section
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.run.resources import own_cores

ROOT = Path(__file__).resolve().parent.parent


class Settings(Section):
    """What each benchmark can be told; its own settings are a subclass."""

    json_file: Annotated[str | None, Field(alias="json")] = None
    """File that gets the numbers."""

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
    if settings.json_file is not None:
        whole = numbers | {"settings": settings.model_dump(), "machine": machine()}
        write_json(Path(settings.json_file), _without_nan(whole))
    return 0


def _without_nan(value: Any) -> Any:
    """The value with null for each number that is not known, as JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def parse_settings(settings_class: type[S], argv: Sequence[str]) -> S:
    """The settings that the command line gives. Raises UserError for a wrong argument; SystemExit after --help."""
    given = {key: value_of(word, f"--{key}") for key, word in options(argv)}
    if "help" in given:
        print(sys.modules[settings_class.__module__].__doc__)
        for key, field in fields_of(settings_class).items():
            print(f"  --{key} ({field.default}): {' '.join((field.description or '').split())}")
        raise SystemExit(0)
    settings: S = validated(settings_class, "", given)
    for name in ("json_file", *settings.PICTURES):
        if (file := getattr(settings, name)) is not None:
            _refuse_unwritable(name.removesuffix("_file"), file, picture=name in settings.PICTURES)
    return settings


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
        child(module, settings.model_dump() | {"only": only, "json": place})
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
