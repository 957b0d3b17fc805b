"""A damaged file of a finished run: one line that names it, or a sensible result; never a traceback."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request, ShowRequest
from autolora.configs.schema import RunConfig, Stage
from autolora.engine import ranks, stages
from autolora.engine.command import run_request
from autolora.engine.disk.files import remove, write_json
from autolora.engine.report import stage as report
from autolora.engine.report.verdict import verdict_of
from autolora.engine.retrain.trials import read_trials
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.refusals import refuse_finished
from autolora.engine.search import trajectory
from tests.helpers.verdict_file import FOUND

pytestmark = pytest.mark.trains  # the one run that all of them damage

TRIAL = {"tried": {"learning_rate": 0.1}, "metrics": {"accuracy": 0.5}, "steps": 3, "seconds": 1.0}
TRIALS = {"chosen": {"learning_rate": 0.1}, "trials": [TRIAL], "settings": {}}
WHOLE_FILES: dict[str, bytes | None] = {
    "empty": b"", "garbage": b"\xff\x00\x1b[31m", "deep": b"[" * 100_000, "number": b"5", "null": b"null",
    "list": b"[1]", "text": b'"[/b]"', "half a letter": b'{"task": "\\ud800"}', "a folder": None,
}  # fmt: skip
JSON_FILES = ("metrics.json", "search/summary.json", "ranks.json", "grid.json", "sweep.json", "verdict.json")
# Every way in which content is no JSON is a case of load_json in tests/engine/disk/test_files.py.
DAMAGED = [(name, kind) for name in JSON_FILES for kind in ("garbage", "null", "list", "half a letter", "a folder")]
DAMAGED += [("search/trajectory.parquet", kind) for kind in ("empty", "garbage", "half", "a folder")]


@pytest.fixture
def folder(finished_run: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    found = RunFolder(tmp_path / "runs" / "tiny")
    for path in (found.grid, found.sweep):
        path.write_text(json.dumps(TRIALS))
    write_json(found.verdict_summary, FOUND)
    return found


def damage(path: Path, content: bytes | None) -> None:
    remove(path)
    path.mkdir() if content is None else path.write_bytes(content)


def readers(config: RunConfig, folder: RunFolder) -> dict[str, Callable[[], Any]]:
    """All that reads the files of a run and draws no page."""
    refusals = [refuse for refuse in (*stages.REFUSALS, *stages.RESUMING) if refuse is not refuse_finished]
    return {
        "show": lambda: run_request(ShowRequest(str(folder.root)), StopRequest()),
        **{
            f"{refuse.__name__} before {stage}": partial(refuse, Asked(config, folder, stage))
            for stage in get_args(Stage)
            for refuse in refusals
        },
        "trials": lambda: (read_trials(folder.grid), read_trials(folder.sweep)),
        "verdict": lambda: verdict_of(folder),
        "ranks": lambda: ranks.load(folder.ranks),
        "trajectory": lambda: trajectory.read(folder.trajectory),
    }


def readers_of(path: Path, config: RunConfig, folder: RunFolder) -> dict[str, Callable[[], Any]]:
    """Those of them that open this file of a whole run."""
    opened: list[Path] = []
    original, found = Path.open, {}

    def spy(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self)
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", spy)
        for name, read in readers(config, folder).items():
            opened.clear()
            with suppress(UserError):
                read()
            if path in opened:
                found[name] = read
    return found


def lines_of(asked: Mapping[str, Callable[[], Any]]) -> dict[str, str]:
    """Reader -> the line in which it refused; any other error is a traceback, and fails."""
    lines = {}
    for name, read in asked.items():
        try:
            read()
        except UserError as error:
            lines[name] = str(error)
    return lines


@pytest.mark.parametrize(("name", "kind"), DAMAGED)
def test_a_damaged_file_is_named_in_one_line(
    folder: RunFolder, tiny_config: Callable[..., RunConfig], name: str, kind: str
) -> None:
    path = folder.root / name
    content = WHOLE_FILES[kind] if kind in WHOLE_FILES else path.read_bytes()[: path.stat().st_size // 2]
    damage(path, content)
    lines = lines_of(readers(tiny_config(), folder))
    assert lines, "at least one reader looks at it"
    for reader, line in lines.items():
        assert str(path) in line, reader
        assert "\n" not in line
    if name not in ("grid.json", "sweep.json"):  # the page of a run shows nothing of them
        with pytest.raises(UserError, match=re.escape(str(path))):
            run_request(Request(tiny_config(), "report", False, "x"), StopRequest())
    assert path.is_dir() if content is None else path.read_bytes() == content, "nothing is taken away"


WRONG_TYPES = ["[/b]\x1b[31m", [], {}, -1, True, 1e400, 10**400]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, of a list only the first entry."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


def with_value(content: Any, place: tuple[Any, ...], new: Any) -> Any:
    """`content` with another value at a place, or without the place where `new` is KeyError."""
    changed = json.loads(json.dumps(content))
    *way, last = place
    at = changed
    for key in way:
        at = at[key]
    if new is KeyError:
        del at[last]
    else:
        at[last] = new
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_value_of_a_wrong_type_or_none_is_refused_or_read(
    folder: RunFolder, tiny_config: Callable[..., RunConfig], name: str
) -> None:
    config, path = tiny_config(), folder.root / name
    content = json.loads(path.read_text())
    content.pop("versions", None)
    if isinstance(content.get("settings"), dict):
        content["settings"] = {"seed": 0}
    asked = readers_of(path, config, folder)
    assert asked, "at least one reader looks at it"
    for place in places(content)[1:]:
        for new in (*WRONG_TYPES, KeyError):
            path.write_text(json.dumps(with_value(content, place, new)))
            for reader, line in lines_of(asked).items():
                assert str(path) in line or line.startswith("--"), (place, new, reader, line)
                assert "\n" not in line


def test_damaged_lines_of_the_curves_are_left_out_with_a_warning(
    folder: RunFolder, tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    whole = folder.search_metrics.read_bytes().splitlines()
    lines = ("5", "null", '"[/b]"', "[]", "{}", '{"step": "2"}', '{"step": 2, "train_loss": "x"}', "[" * 50_000)
    bad = [b"garbage \xff", *(line.encode() for line in lines)]
    folder.search_metrics.write_bytes(b"\n".join([whole[0], *bad, *whole[1:], whole[-1][:20]]))
    run_request(Request(tiny_config(), "report", False, "x"), StopRequest())
    assert folder.report.exists()
    (line,) = [line for line in log_lines if str(folder.search_metrics) in line]
    assert line.startswith("WARNING")
    assert "9 damaged line(s), the first is line 2" in line


# Of metrics.jsonl the kinds that are no damaged line, which the test above has. A page shows nothing of grid.json and
# sweep.json: any damage tells whether it reads them after all.
DRAWN: list[tuple[tuple[str, ...], str]] = [
    *((("search/metrics.jsonl",), kind) for kind in ("empty", "garbage", "half a letter", "a folder")),
    *((("config.yaml",), kind) for kind in WHOLE_FILES),
    *((("grid.json", "sweep.json"), kind) for kind in ("garbage", "a folder")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("damaged", "kind"), DRAWN, ids=lambda value: value if isinstance(value, str) else value[0])
def test_the_page_is_drawn_or_the_file_is_named(
    folder: RunFolder,
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    damaged: tuple[str, ...],
    kind: str,
) -> None:
    """Whatever is damaged in a file that is read over, the page is the same: it is drawn once for each file."""
    paths = [folder.root / name for name in damaged]
    for path in paths:
        damage(path, WHOLE_FILES[kind])
    if kind != "garbage":
        for drawing, nothing in (("draw", {}), ("run_charts", {}), ("render", "")):
            monkeypatch.setattr(report, drawing, lambda *_, nothing=nothing, **__: nothing)
    folder.report.unlink()
    refused = ""
    try:
        run_request(Request(tiny_config(), "report", False, "x"), StopRequest())
    except UserError as error:
        refused = str(error)
    assert folder.report.exists() or any(str(path) in refused for path in paths)
    assert "\n" not in refused
