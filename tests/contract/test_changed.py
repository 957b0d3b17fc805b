"""Half-done or finished work whose inputs have changed since is refused by name, and nothing is mixed or changed."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import once, own_table, table
from tests.contract.program import Fork, command, succeed
from tests.contract.readers import everything, read
from tests.helpers.tiny import tiny_arguments

pytestmark = pytest.mark.trains


@dataclass
class Half:
    """A run that was stopped in a stage: its command, its folder, and the folder of what it reads."""

    stage: str
    argv: list[str]
    root: Path
    inputs: Path

    def refused(self, named: str, *more: str) -> None:
        """The command with further words is one line that has this name, and the run stays as it was."""
        before = everything(self.root)
        answer = command(*once([*self.argv, *more]))
        assert answer.code == 2, answer
        assert named in answer.line
        assert everything(self.root) == before


STAGES: dict[str, tuple[str, ...]] = {
    "search": ("--search.steps", "100000", "--search.patience", "0"),
    "retraining": (
        "--method", "lora_ranks", "--lora.ranks_from", "{here}/ranks.json", "--retrain.max_steps", "100000"
    ),
    "sweep": ("--method", "lora", "--retrain.learning_rate", "[1e-3,1e-2]", "--retrain.max_steps", "100000"),
}  # fmt: skip


@pytest.fixture(scope="module", params=STAGES)
def half(
    request: pytest.FixtureRequest, model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Half:
    """Each test leaves it as it was."""
    here = tmp_path_factory.mktemp("half")
    shutil.copytree(model_folder("bert"), here / "model")
    layers = [{"name": "bert.encoder.layer.0.attention.self.query", "rank": 2}]
    (here / "ranks.json").write_text(json.dumps({"layers": layers}))
    given = [word.replace("{here}", str(here)) for word in STAGES[request.param]]
    argv = once([*tiny_arguments(here / "model", here), *own_table(here), *given])
    root = here / "runs" / "tiny"
    process = Fork(argv, here / "out.txt")
    begun = {"search": "search/metrics.jsonl", "retraining": "config.yaml", "sweep": "config.yaml"}[request.param]
    process.wait_for((root / begun).exists)
    assert process.kill(signal.SIGTERM) == 143, process.said()
    return Half(request.param, argv, root, here)


CHANGES: dict[str, dict[str, str]] = {
    "search": {
        "--seed": "1", "--search.learning_rate": "0.5", "--search.batch_size": "4", "--lora.k": "2",
        "--task.validation_share": "0.25", "--task.max_length": "64", "--search.constraint": "sigmoid",
        "--hypergradient.eta": "1", "--lora.target_modules": "[query]",
    },
    "retraining": {
        "--seed": "1", "--retrain.batch_size": "4", "--retrain.learning_rate": "0.5", "--method": "lora_shuffled",
    },
    "sweep": {"--seed": "1", "--retrain.batch_size": "4", "--retrain.learning_rate": "[0.1,0.2]", "--lora.r": "2"},
}  # fmt: skip


def test_another_setting_is_refused_by_its_key(half: Half) -> None:
    for key, value in CHANGES[half.stage].items():
        half.refused(key, key, value)


def other_text(path: Path) -> None:
    path.write_text(path.read_text().replace("dull", "tasty", 1))


def more_rows(path: Path) -> None:
    table(path, rows=30)


def other_label(path: Path) -> None:
    path.write_text(path.read_text().replace(",bad", ",good", 1))


def other_order(path: Path) -> None:
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, rows[2], rows[1], rows[0], *rows[3:]]) + "\n")


@pytest.mark.parametrize("change", [other_text, more_rows, other_label, other_order])
def test_other_training_rows_are_refused_by_their_file(half: Half, change: Callable[[Path], None]) -> None:
    file = half.inputs / "train.csv"
    whole = file.read_bytes()
    try:
        change(file)
        half.refused(str(file))
    finally:
        file.write_bytes(whole)


def test_other_evaluation_rows_are_refused_by_their_file(half: Half) -> None:
    file = half.inputs / "dev.csv"
    whole = file.read_bytes()
    try:
        other_text(file)
        half.refused(str(file))
    finally:
        file.write_bytes(whole)


def test_another_base_model_is_refused(half: Half) -> None:
    """As when a hub's main branch has moved on, or a local folder was trained again."""
    file = half.inputs / "model" / "model.safetensors"
    kept = file.with_suffix(".kept")
    os.replace(file, kept)
    try:
        save_file({name: weight * 1.1 for name, weight in load_file(kept).items()}, file, {"format": "pt"})
        half.refused(str(half.inputs / "model"))
    finally:
        os.replace(kept, file)


@pytest.mark.parametrize("half", ["retraining"], indirect=True)
def test_other_ranks_are_refused_by_their_file(half: Half) -> None:
    file = half.inputs / "ranks.json"
    whole = file.read_text()
    try:
        file.write_text(whole.replace('"rank": 2', '"rank": 3'))
        half.refused(str(file))
    finally:
        file.write_text(whole)


def test_ranks_of_a_search_on_other_rows_are_not_retrained_by_stage_all(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    """By --stage retrain, which takes ranks.json as it is, they are."""
    argv = tiny(*own_table(tmp_path), "--task.evaluation_rows", "null")
    succeed(*argv, "--stage", "search")
    before = everything(folder)
    more_rows(tmp_path / "train.csv")
    answer = command(*argv)
    assert answer.code == 2
    assert "train.csv" in answer.line
    assert everything(folder) == before
    succeed(*argv, "--stage", "retrain")
    assert (folder / "metrics.json").exists()


def test_a_finished_run_is_not_trained_again_without_overwrite(tiny: Tiny, finished: Finished, folder: Path) -> None:
    shutil.copytree(finished(), folder)
    before = everything(folder)
    for more in (("--seed", "5"), ("--method", "lora"), ("--stage", "retrain", "--retrain.max_steps", "3")):
        assert command(*tiny(*more)).code == 2
        assert everything(folder) == before


def test_overwrite_makes_new_results_and_keeps_the_old_ones(tiny: Tiny, finished: Finished, folder: Path) -> None:
    shutil.copytree(finished(), folder)
    (folder / "notes.txt").write_text("mine")
    before = everything(folder)
    for steps, old in ((2, "tiny.old-1"), (3, "tiny.old-2")):
        succeed(*tiny("--overwrite", "--retrain.max_steps", steps))
        assert read(folder / "metrics.json")["steps"]["retrain"] == steps
        assert sorted(path.name for path in folder.parent.iterdir())[-1] == old
    assert everything(folder.parent / "tiny.old-1") == before
    assert "accuracy" in succeed("--show", folder.parent / "tiny.old-1")


def test_overwrite_of_the_retraining_keeps_the_ranks(tiny: Tiny, finished: Finished, folder: Path) -> None:
    shutil.copytree(finished(), folder)
    before = everything(folder)
    succeed(*tiny("--stage", "retrain", "--overwrite", "--retrain.max_steps", "2"))
    assert (folder / "ranks.json").read_bytes() == before["ranks.json"]
    assert everything(folder.parent / "tiny.old-1") == before
    assert read(folder / "metrics.json")["steps"] == {"search": 6, "retrain": 2}


def test_a_folder_of_the_users_is_not_taken_for_a_run(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    for name in ("trials/a.txt", "retrain/b.txt", "config.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    tiny()  # it writes its usual keys into a file there
    before = everything(tmp_path)
    for more in ((), ("--overwrite",)):
        assert command(*tiny(*more)).code == 2
        assert everything(tmp_path) == before


def test_a_control_does_not_replace_the_ranks_that_it_reads(tiny: Tiny, finished: Finished, folder: Path) -> None:
    shutil.copytree(finished(), folder)
    before = everything(folder)
    words: tuple[Any, ...] = ("--method", "lora_shuffled", "--lora.ranks_from", folder / "ranks.json", "--overwrite")
    answer = command(*tiny(*words))
    assert answer.code == 2
    assert "--lora.ranks_from" in answer.line
    assert everything(folder) == before
