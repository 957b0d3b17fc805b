"""Runs that were really stopped half-way, on a user's own table, to be resumed after something has changed."""

import dataclasses
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, Stage
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages

RATES = ("--retrain.learning_rates", "[1e-3,1e-2]")
STAGES: Mapping[str, tuple[str, ...]] = {
    "search": (),
    "retraining": ("--method", "lora"),
    "sweep": ("--method", "lora", *RATES),
    "grid": ("--method", "lora_grid", "--lora.grid", "[1,2]"),
    "adalora": ("--method", "adalora", "--retrain.max_steps", "10"),
}
"""The work that can be half done -> the options of a run that begins with it."""


def write_table(path: Path, rows: int = 24, classes: tuple[str, str] = ("bad", "good"), seed: int = 0) -> None:
    """A table of texts and labels in the tiny tokenizer's words, both classes in turn."""
    draw = random.Random(seed)
    words = ("film", "room", "soup", "was", "dull", "noisy", "tasty", "really", "the", "our")
    lines = [f"{' '.join(draw.choices(words, k=6))},{classes[i % 2]}" for i in range(rows)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class HalfDone:
    """A stopped run: its configuration and folder, and the files that its rows come from."""

    stage: str
    config: RunConfig
    folder: RunFolder
    train: Path
    dev: Path

    @contextmanager
    def changed(self, change: Callable[[Path, Path], None]) -> Iterator[None]:
        """Inside, the files are as `change(train, dev)` leaves them; afterwards both are as before."""
        whole = self.train.read_bytes(), self.dev.read_bytes()
        try:
            change(self.train, self.dev)
            yield
        finally:
            self.train.write_bytes(whole[0])
            self.dev.write_bytes(whole[1])


def table_of(folder: Path) -> tuple[str, ...]:
    """The options of a task whose training and validation rows lie in the folder; both files are written."""
    write_table(folder / "train.csv")
    write_table(folder / "dev.csv", rows=8, seed=1)
    given = {"type": "text", "path": folder / "train.csv", "validation_path": folder / "dev.csv"}
    return tuple(part for key, value in given.items() for part in (f"--task.{key}", str(value)))


def own_model(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration with a copy of its base model, in this folder, whose weights a test may change."""
    shutil.copytree(config.model.name, folder)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=str(folder)))


@contextmanager
def other_weights(config: RunConfig) -> Iterator[None]:
    """Inside, the base model in `own_model`'s folder has other weights."""
    file = Path(config.model.name) / "model.safetensors"
    kept = file.with_suffix(".kept")
    os.replace(file, kept)
    save_file({name: weight * 1.1 for name, weight in load_file(kept).items()}, file, {"format": "pt"})
    try:
        yield
    finally:
        os.replace(kept, file)


def go_on(config: RunConfig, stage: Stage = "all") -> RunFolder:
    """Runs the same command again, without drawing the report."""
    return run_stages(Request(config, stage, False, "x"), StopRequest(), draw=False)


class StopInTraining(StopRequest):
    """A signal that comes when the training has begun, which is when config.yaml is written."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._before = folder, _written(folder)

    @property
    def code(self) -> int | None:  # type: ignore[override]
        """SIGINT's exit code from then on."""
        return 130 if _written(self._folder) != self._before else None

    @code.setter
    def code(self, value: int | None) -> None:
        """Ignored: `Processes.agree` sets what `code` has just returned."""


def _written(folder: RunFolder) -> int | None:
    return folder.config.stat().st_ino if folder.config.exists() else None


def stop_half_way(config: RunConfig, stage: Stage = "all") -> RunFolder:
    """Runs the stage until its first step, after which a signal ends it; returns the folder with its checkpoint."""
    folder = RunFolder.of(config)
    with pytest.raises(Interrupted):
        run_stages(Request(config, stage, False, "x"), StopInTraining(folder))
    return folder


def edit(path: Path, key: str, value: Any) -> None:
    """Gives a dotted key of a config.yaml another value, as a user does in an editor."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    *sections, name = key.split(".")
    section = reduce(dict.__getitem__, sections, settings)
    assert section[name] != value
    section[name] = value
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def content(root: Path) -> dict[str, bytes]:
    """Every file in a folder and below it."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
