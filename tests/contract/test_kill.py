"""`kill -9` at any moment of any command, then the same command: it ends bit for bit as if not
killed."""

import random
import shutil
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Finished, Models, Tiny
from tests.contract.inputs import conversations, language_arguments, lines, once, table
from tests.contract.program import Fork, die_at_operation, refused, signal_at_step
from tests.contract.readers import everything, outcome, read
from tests.helpers.shell import words
from tests.helpers.tiny import MEASURED, tiny_arguments

# Dropout on in both stages, both loaders shuffle, more than one epoch in each stage, checkpoints
# inside the epochs.
LONG = words(
    "--lora.dropout 0.1 --task.train_rows 40 --task.evaluation_rows 16 "
    "--search.steps 7 --search.patience 0 --search.checkpoint_every 2 "
    "--retrain.max_steps 9 --retrain.checkpoint_every 2"
)
FEW = words("--task.evaluation_rows 64 --retrain.max_steps 2 --verdict.pairs 8 --verdict.rows 16")
OF_A_RUN = {
    "run": (*MEASURED, *LONG),
    "overwrite": (*MEASURED, *LONG, "--overwrite"),
    "measure.from": (
        *MEASURED,
        "--measure.from",
        "{finished}",
        "--choose.rule",
        "size",
        "--choose.budget",
        "2",
        "--search.check_every",
        "null",
    ),
    "verdict": (*MEASURED, *FEW, "--stage", "verdict", "--verdict.minutes", "60"),
    "trial": ("--method", "lora_grid", "--lora.grid", "[1,2]", "--lora.target_modules", "[query]"),
}
"""Commands that begin with those of a tiny run."""
COMMANDS = {
    "run": 0.35,
    "overwrite": 0.8,
    "measure.from": 0.5,
    "verdict": 0.5,
    "trial": 0.4,
    "generation": 0.85,
    "cut": 0.7,
}
"""At which part of its operations on files each is killed; elsewhere, too, in the tests that
soak."""


@dataclass
class Whole:
    """How a command ends when nothing happens to it, in how many seconds, and after how many
    operations on files.

    `before`: what lies in its folder when it begins."""

    argv: list[str]
    root: Path
    before: Path | None
    outcome: dict[str, Any]
    part: float
    seconds: float = 0.0
    operations: int = 0

    def begin(self, output: Path, moment: int = 0, log: Path | None = None) -> Fork:
        """The command in an untouched folder; it kills itself before its `moment`-th operation."""
        shutil.rmtree(self.root.parent, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, self.root)
        return Fork(self.argv, output, partial(die_at_operation, moment, log))

    def ends_alike(self, output: Path) -> None:
        """The same command again; it must resume and end as if nothing had happened."""
        assert "damaged" not in Fork(self.argv, output).succeed()
        found = outcome(self.root.parent)
        # Of a verdict's pair, of which only the numbers are kept, a kill may leave the adapter.
        assert [
            name for name in found.keys() ^ self.outcome.keys() if "verdict/cells/" not in name
        ] == []
        for name in found.keys() & self.outcome.keys():
            assert found[name] == self.outcome[name], name


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.soak] if name == "verdict" else [])
        for name in COMMANDS
    ],
)
def whole(
    request: pytest.FixtureRequest,
    model_folder: Models,
    finished: Finished,
    chat_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    name = request.param
    place = tmp_path_factory.mktemp("kill")
    root = place / "runs" / "tiny"
    before = finished() if request.param in ("overwrite", "verdict") else None
    if name == "generation":
        data = lines(place / "messages.jsonl", conversations())
        argv = language_arguments(chat_model, data, root.parent, retrain__checkpoint_every=2)
    elif name == "cut":
        rows = table(place / "rows.csv", 40, ("negative", "positive"))
        argv = [
            "cut",
            str(finished() / "adapter"),
            str(root / "out"),
            "--measured",
            str(root),
            "--rank",
            "1",
        ]
        argv += ["--data", str(rows)]
    else:
        given = [str(finished()) if word == "{finished}" else word for word in OF_A_RUN[name]]
        argv = once([*tiny_arguments(model_folder("bert", 0.1), place), *given])
    found = Whole(argv, root, before, {}, COMMANDS[name])
    began = time.monotonic()
    found.begin(place / "whole.txt", log=place / "log").succeed()
    found.outcome = outcome(root.parent)
    found.seconds = time.monotonic() - began
    found.operations = len((place / "log").read_text())
    return found


def killed_at(whole: Whole, tmp_path: Path, part: float) -> None:
    process = whole.begin(tmp_path / "killed.txt", max(1, round(part * whole.operations)))
    assert process.wait() == -signal.SIGKILL, process.said()
    # the old result is whole, here or beside
    if "--overwrite" in whole.argv and whole.before is not None:
        old = whole.root.with_name("tiny.old-1")
        assert everything(old if old.exists() else whole.root) == everything(whole.before)
    whole.ends_alike(tmp_path / "again.txt")


def test_a_kill_at_a_file_operation(whole: Whole, tmp_path: Path) -> None:
    killed_at(whole, tmp_path, whole.part)


@pytest.mark.soak
@pytest.mark.parametrize("part", [0, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
def test_more_kills_at_file_operations(whole: Whole, tmp_path: Path, part: float) -> None:
    killed_at(whole, tmp_path, part)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("whole", ["run"], indirect=True)
def test_kills_at_random_times(whole: Whole, tmp_path: Path, seed: int) -> None:
    times = random.Random(seed)
    while True:
        process = whole.begin(tmp_path / "killed.txt")
        time.sleep(times.uniform(0.02, whole.seconds))
        if process.kill() == -signal.SIGKILL and not (whole.root / "report.html").exists():
            break  # otherwise it was done already
    whole.ends_alike(tmp_path / "again.txt")


STOPPED = {
    "search": ("--search.steps", "12", "--search.patience", "0", "--stage", "search"),
    "retrain": ("--method", "lora", "--retrain.max_steps", "12"),
}
"""A search takes two steps of an optimiser in each of its own, a training one."""


@pytest.mark.parametrize(
    ("stage", "number", "code", "steps"),
    [("search", signal.SIGTERM, 143, 24), ("retrain", signal.SIGINT, 130, 12)],
)
def test_a_signal_saves_and_ends(
    tiny: Tiny, folder: Path, tmp_path: Path, stage: str, number: int, code: int, steps: int
) -> None:
    """Ctrl-C, or the signal of a queue, at the fifth step; the same command then goes on where it
    stopped, and takes no step twice."""
    rare = (f"--{stage}.checkpoint_every", "100000")
    argv = tiny(*STOPPED[stage], *rare)
    taken = tmp_path / "steps"
    process = Fork(argv, tmp_path / "out.txt", partial(signal_at_step, 5, number, taken))
    assert process.wait() == code, process.said()
    assert "Traceback" not in process.said()
    assert not (folder / "metrics.json").exists()
    assert len(taken.read_text()) < steps / 2
    Fork(argv, tmp_path / "again.txt", partial(signal_at_step, 0, number, taken)).succeed()
    assert len(taken.read_text()) == steps
    if stage == "search":
        logged = [line["step"] for line in read(folder / "search" / "metrics.jsonl")]
        assert logged == sorted(set(logged)), "no line twice"
    else:
        assert read(folder / "metrics.json")["steps"]["retrain"] == 12


def test_two_commands_never_work_in_one_folder(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    argv = tiny("--search.steps", "100000", "--search.patience", "0")
    process = Fork(argv, tmp_path / "out.txt")
    process.wait_for((folder / "search" / "metrics.jsonl").exists)
    line = refused(*argv)
    assert process.kill() == -signal.SIGKILL
    assert str(folder) in line
