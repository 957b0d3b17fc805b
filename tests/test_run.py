"""The entry: what a user must change is one line and exit code 2, and nothing is left behind."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import run
from autolora.engine.run.folder import RunFolder
from tests.helpers.glue_folders import folder_of, rows

Refused = Callable[..., str]
MakeArgv = Callable[[Path], list[str]]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], make_argv: MakeArgv) -> Refused:
    """refused("--seed", "-1"): the one line on stderr of a command that must fail."""

    def call(*arguments: str) -> str:
        argv = [*make_argv(tmp_path), *arguments]
        capsys.readouterr()
        code = run.main(argv)
        shown = capsys.readouterr()
        lines = [line for line in shown.err.splitlines() if line.strip()]
        assert code == 2, shown
        assert len(lines) == 1, shown.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in shown.out
        return lines[0].removeprefix("error: ")

    return call


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run.main` sets for its libraries goes back."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", os.environ.get("TOKENIZERS_PARALLELISM", "false"))


def left_behind(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in (folder / "runs").rglob("*")]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A Python without this program's packages ended in a traceback, which is the first thing that many users saw."""
    monkeypatch.delitem(sys.modules, "autolora.configs.parser", raising=False)
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    assert run.main([]) == 2
    assert capsys.readouterr().err == (
        "error: the Python package jsonargparse is not installed here; start with `uv run run.py`, or see README, "
        '"Without uv"\n'
    )


def test_a_module_of_the_program_itself_that_is_missing_is_no_users_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "autolora.configs.parser", None)
    with pytest.raises(ModuleNotFoundError, match=r"configs\.parser"):
        run.main([])


@pytest.mark.trains
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model.name", "nobody/no-such-model"), "--model.name: cannot load 'nobody/no-such-model'"),
        (("--task.type", "glue", "--task.name", "rte", "--task.path", "nobody/none"), "--task.path: cannot load"),
    ],
)
def test_a_model_or_data_that_the_hub_does_not_give_is_one_line(
    refused: Refused, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert refused(*arguments).startswith(message)
    assert left_behind(tmp_path) == []


@pytest.mark.trains
def test_a_task_that_the_data_set_has_not_is_one_line(refused: Refused, tmp_path: Path) -> None:
    path = folder_of(tmp_path / "data", "sst2", {"train": rows("sst2", 1), "validation": rows("sst2", 1)})
    line = refused("--task.type", "glue", "--task.name", "cola", "--task.path", path)
    assert line.startswith(f"--task.path: cannot load '{path}, cola'")


def test_a_folder_that_this_user_may_not_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "config.yaml"))

    monkeypatch.setattr("autolora.engine.command.settle_if_free", refuse)
    assert run.main(["--show", "closed"]) == 2
    line = "error: closed/config.yaml: this user may not read or write it (permission denied)\n"
    assert capsys.readouterr().err == line


@pytest.mark.trains
def test_a_finished_run_is_refused_and_left_as_it_is(
    refused: Refused, finished_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    before = left_behind(tmp_path)
    assert "already holds a finished run; --overwrite replaces it" in refused("--seed", "5")
    assert left_behind(tmp_path) == before


@pytest.mark.trains
@pytest.mark.parametrize("found", ["0.1.1", None])
def test_another_betty_is_named_with_the_command_that_mends_it(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    def version(name: str) -> str:
        assert name == "betty-ml"
        if found is None:
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(run, "version", version)
    line = refused()
    assert line.startswith(f"betty-ml 0.2.1 is needed, found {found or 'none'}; run: pip install --no-deps")


@pytest.mark.trains
def test_a_good_command_ends_with_the_result_and_code_0(
    make_argv: MakeArgv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*make_argv(tmp_path), "--search.steps", "2", "--retrain.max_steps", "1"]) == 0
    shown = capsys.readouterr()
    folder = RunFolder(tmp_path / "runs" / "tiny")
    accuracy = json.loads(folder.metrics.read_text())["metrics"]["accuracy"]
    assert f"sample, test: accuracy {accuracy:.2f} +- " in shown.out
    assert str(folder.report) in shown.out
    assert "Traceback" not in shown.err


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_finishes(make_argv: MakeArgv, tmp_path: Path) -> None:
    """A real SIGINT, real processes: one line, code 130, and the end is that of a run that nobody stopped."""
    root = Path(run.__file__).parent
    steps = ("--search.steps", "60", "--search.checkpoint_every", "1000", "--search.patience", "0")
    command = [sys.executable, "run.py", *make_argv(tmp_path), *steps]
    folder = RunFolder(tmp_path / "runs" / "tiny")
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not folder.search_metrics.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "stopping as soon as what is done is saved; a second signal (Ctrl-C again) stops at once",
        "stopped; the same command resumes from what was saved",
    ]
    assert not folder.ranks.exists()
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert "search: resumes from step" in again.stdout
    assert json.loads(folder.metrics.read_text())["steps"] == {"search": 60, "retrain": 4}
    lines = [json.loads(line)["step"] for line in folder.search_metrics.read_text().splitlines()]
    assert lines == list(range(2, 61, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 1.0), (signal.SIGINT, 3.0)])
def test_a_signal_while_the_program_starts_ends_it_without_a_traceback(
    make_argv: MakeArgv, tmp_path: Path, number: signal.Signals, after: float
) -> None:
    """During the imports, and while model and data are loaded."""
    command = [sys.executable, "run.py", *make_argv(tmp_path), "--search.steps", "100000"]
    place = Path(run.__file__).parent
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    *before, last = errors.splitlines()
    assert last.startswith("stopped")
    assert before == [] or (len(before) == 1 and before[0].startswith("stopping as soon as ")), errors
