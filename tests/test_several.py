"""Two processes (gloo) do what one does: the same alpha, ranks, adapter and metrics at the same whole batch."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.engine.run.folder import RunFolder
from autolora.problems.hypergradients import HYPERGRADIENTS
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
from tests.helpers.places import ROOT
from tests.helpers.processes import Process, fresh, outcome
from tests.helpers.several import Several
from tests.helpers.tiny import MEASURED, tiny_arguments

# 41 rows, D_tr 20 and D_val 21, batch 9: the last batches have 2 and 3 rows, the retraining's 5; parts are unequal.
CASE = [
    "--task.train_rows", "41", "--search.batch_size", "9", "--retrain.batch_size", "9", "--search.patience", "0",
    "--search.steps", "7", "--retrain.max_steps", "7", "--search.warmup_ratio", "0",
]  # fmt: skip


@pytest.fixture
def argv(model_folder: Callable[..., Path], tmp_path: Path) -> list[str]:
    return [*tiny_arguments(model_folder("bert", 0.0), tmp_path), *MEASURED, *CASE]


def close(one: Any, other: Any, tolerance: float) -> None:
    np.testing.assert_allclose(np.array(one, dtype=float), np.array(other, dtype=float), atol=tolerance, rtol=0)


def run_one(argv: list[str], tmp_path: Path, *, draw: bool = False) -> dict[str, Any]:
    process = Process(argv, tmp_path / "one.txt", draw=draw)
    assert process.wait() == 0, process.output.read_text()
    return outcome_of(tmp_path)


def run_two(argv: list[str], tmp_path: Path, *, draw: bool = False) -> dict[str, Any]:
    fresh(tmp_path / "runs")
    several = Several(argv, tmp_path / "two.txt", draw=draw)
    assert several.wait() == [0, 0], several.said()
    return outcome_of(tmp_path)


def outcome_of(tmp_path: Path) -> dict[str, Any]:
    return outcome(tmp_path / "runs" / "tiny")


def ranks_of(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "runs" / "tiny" / "ranks.json").read_text())["layers"]


FAST = ("first_order", "forward_difference", "darts")
METHODS = [pytest.param(m, marks=() if m in FAST else pytest.mark.slow) for m in sorted(HYPERGRADIENTS)]
OWN = f"{ROOT / 'tests' / 'helpers' / 'own_hypergradients.py'}:Drawing"
METHODS.append(pytest.param(OWN, marks=pytest.mark.slow, id="one's own that draws"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_search_finds_the_same_alpha(argv: list[str], tmp_path: Path, method: str) -> None:
    argv = [*argv, "--stage", "search", "--hypergradient.type", method, "--hypergradient.eta", "0.1"]
    process = Process(argv, tmp_path / "one.txt", draw=False)
    assert process.wait() == 0, process.output.read_text()
    one = ranks_of(tmp_path)
    fresh(tmp_path / "runs")
    several = Several(argv, tmp_path / "two.txt", draw=False)
    assert several.wait() == [0, 0], several.said()
    two = ranks_of(tmp_path)
    close([layer["alpha"] for layer in two], [layer["alpha"] for layer in one], 1e-4)
    assert [layer["rank"] for layer in two] == [layer["rank"] for layer in one]
    assert np.ptp([layer["alpha"] for layer in one]) > 1e-2, "alpha has moved"
    close([layer["layer_share"] for layer in two], [layer["layer_share"] for layer in one], 1e-3)
    close([sum(layer["share"]) for layer in two], [layer["layer_share"] for layer in two], 1e-6)


@pytest.mark.slow
def test_a_whole_run_is_the_same(argv: list[str], tmp_path: Path) -> None:
    def curve() -> list[float]:
        lines = (tmp_path / "runs" / "tiny" / "retrain_metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    one, of_one = run_one(argv, tmp_path, draw=True), curve()
    two, of_two = run_two(argv, tmp_path, draw=True), curve()
    close(of_two, of_one, 1e-4)
    assert two["files"] == one["files"]
    for name, value in one["adapter"].items():
        close(two["adapter"][name], value, 1e-4)
    assert two["metrics"]["metrics"] == one["metrics"]["metrics"]
    assert two["metrics"]["steps"] == one["metrics"]["steps"]
    # 1,000 rows in batches of 2 x 64: the last are filled up, and those rows must not count twice.
    assert two["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], abs=1e-5)
    for ours, theirs in zip(two["lines"], one["lines"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "adalora", "eva", "para", "head"])
def test_the_baselines_are_the_same(argv: list[str], tmp_path: Path, method: str) -> None:
    argv = [*argv, "--method", method, "--retrain.max_steps", "12", "--lora.modules_to_save", "null"]

    def adapter() -> dict[str, Any]:
        from safetensors.torch import load_file

        file = "merged/model.safetensors" if method == "head" else "adapter/adapter_model.safetensors"
        return load_file(tmp_path / "runs" / "tiny" / file)

    process = Process(argv, tmp_path / "one.txt", draw=False)
    assert process.wait() == 0, process.output.read_text()
    one = adapter()
    fresh(tmp_path / "runs")
    several = Several(argv, tmp_path / "two.txt", draw=False)
    assert several.wait() == [0, 0], several.said()
    for name, value in adapter().items():
        close(value, one[name], 1e-4)


@pytest.mark.slow
def test_a_language_model_that_is_not_trained_is_the_same(tmp_path: Path) -> None:
    data, model = write_e2e(tmp_path / "data"), save_causal(tmp_path / "gpt2", "gpt2")
    argv = [*arguments(model, data, tmp_path / "runs", "[c_attn]"), "--method", "head"]

    def metrics() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "runs" / "tiny" / "metrics.json").read_text())
        return found

    process = Process(argv, tmp_path / "one.txt", draw=False)
    assert process.wait() == 0, process.output.read_text()
    one = metrics()
    fresh(tmp_path / "runs")
    several = Several(argv, tmp_path / "two.txt", draw=False)
    assert several.wait() == [0, 0], several.said()
    assert metrics()["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
    assert metrics()["loss"] == pytest.approx(one["loss"], abs=1e-5)


@pytest.mark.slow
def test_a_whole_run_on_conversations_is_the_same(tmp_path: Path) -> None:
    data = tmp_path / "messages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()))
    argv = chat_arguments(save_chat_model(tmp_path / "model"), data, tmp_path / "runs")
    one, two = run_one(argv, tmp_path), run_two(argv, tmp_path)
    assert two["files"] == one["files"]
    assert two["metrics"]["metrics"] == pytest.approx(one["metrics"]["metrics"], rel=1e-3)
    assert two["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], abs=1e-4)


def die_at(stage: str, rank: int, step: int) -> Callable[[int], None]:
    """That process kills itself in that step of that stage."""

    def prepare(own: int) -> None:
        if own != rank:
            return
        from autolora.engine.retrain.trainer import RetrainTrainer
        from autolora.engine.search.engine import SearchEngine

        owner, name = (SearchEngine, "train_step") if stage == "search" else (RetrainTrainer, "training_step")
        original, count = getattr(owner, name), [0]

        def guarded(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(owner, name, guarded)

    return prepare


@pytest.fixture(scope="module")
def by_two(
    model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path, dict]:
    """A run by two processes with dropout that nobody killed: its command, its place and its outcome."""
    place = tmp_path_factory.mktemp("two")
    argv = [*tiny_arguments(model_folder("bert", 0.1), place), *MEASURED, *CASE, "--retrain.checkpoint_every", "2"]
    return argv, place, run_two(argv, place)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "rank"), [("search", 1), ("search", 0), ("retrain", 1)])
def test_a_killed_worker_costs_nothing_but_steps(
    by_two: tuple[list[str], Path, dict], tmp_path: Path, stage: str, rank: int
) -> None:
    """Dropout on: every process continues with its own masks, and ends bit-equal to a run without a kill."""
    argv, place, expected = by_two
    fresh(place / "runs")
    several = Several(argv, tmp_path / "killed.txt", prepare=die_at(stage, rank, 6), draw=False)
    codes = several.wait()
    assert codes[rank] == -9
    assert codes[1 - rank] == 2, several.said()
    assert "another process of this run has ended" in several.said()
    again = Several(argv, tmp_path / "again.txt", draw=False)
    assert again.wait() == [0, 0], again.said()
    found = outcome_of(place)
    for key, value in expected.items():
        assert found[key] == value, key


@pytest.mark.slow
def test_an_overwrite_by_two_processes_takes_the_place_of_the_old_result(
    argv: list[str], tmp_path: Path, finished_run: Callable[..., RunFolder]
) -> None:
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    argv = [*argv, "--overwrite", "--retrain.max_steps", "5"]
    several = Several(argv, tmp_path / "killed.txt", prepare=die_at("search", 1, 4))
    several.wait()
    assert outcome_of(tmp_path)["metrics"]["steps"]["retrain"] == 4
    again = Several(argv, tmp_path / "again.txt")
    assert again.wait() == [0, 0], again.said()
    assert "resuming the half-done new results in" in " ".join(again.said().split())
    assert outcome_of(tmp_path)["metrics"]["steps"]["retrain"] == 5
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all(argv: list[str], tmp_path: Path) -> None:
    argv = [*argv, "--search.steps", "100000"]
    several = Several(argv, tmp_path / "two.txt")
    root = tmp_path / "runs" / "tiny"
    several.processes[0].wait_for(lambda: (root / "search" / "metrics.jsonl").exists())
    os.kill(several.processes[1].pid, signal.SIGTERM)
    assert several.wait() == [143, 143], several.said()
    assert (root / "search" / "checkpoint").exists()


@pytest.mark.slow
def test_a_study_is_refused(argv: list[str], tmp_path: Path) -> None:
    """tests/engine/test_command.py has all that is refused to several processes."""
    several = Several([*argv, "--study.axes", '{"seed": [0, 1]}'], tmp_path / "two.txt")
    assert several.wait() == [2, 2]
    assert "torchrun: a study" in several.said()
