"""Where everything of one run lies: the run folder is a contract that other programs read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from configs.errors import UserError
from configs.rules import SEARCHING
from configs.schema import RunConfig, Stage

# The name of this folder's run at wandb's server: what goes on here goes on there.
WANDB_ID = "wandb_id"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside runs/<name>/."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def wandb_id(self) -> Path:
        return self.root / WANDB_ID

    @property
    def search(self) -> Path:
        return self.root / "search"

    @property
    def trajectory(self) -> Path:
        return self.search / "trajectory.parquet"

    @property
    def search_metrics(self) -> Path:
        return self.search / "metrics.jsonl"

    @property
    def search_checkpoint(self) -> Path:
        return self.search / "checkpoint"

    @property
    def search_weights(self) -> Path:
        return self.search / "weights.safetensors"

    @property
    def search_summary(self) -> Path:
        return self.search / "summary.json"

    @property
    def search_config(self) -> Path:
        return self.search / "config.yaml"

    @property
    def ranks(self) -> Path:
        return self.root / "ranks.json"

    @property
    def retrain(self) -> Path:
        return self.root / "retrain"

    @property
    def grid(self) -> Path:
        return self.root / "grid.json"

    @property
    def sweep(self) -> Path:
        return self.root / "sweep.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def merged(self) -> Path:
        return self.root / "merged"

    @property
    def padded(self) -> Path:
        return self.root / "adapter_padded"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.txt"

    @property
    def references(self) -> Path:
        return self.root / "references.txt"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def clear_leftovers(self) -> None:
        """Removes what a kill after a stage's last file left of the stage's checkpoints."""
        if self.ranks.exists():
            remove(self.search_checkpoint)
            remove(self.search_checkpoint.with_name(f"{self.search_checkpoint.name}.previous"))
        if self.metrics.exists():
            remove(self.retrain)
            remove(self.trials)

    def outputs(self, stage: Stage) -> list[Path]:
        """What a stage writes."""
        searched = [self.wandb_id, self.search, self.grid, self.ranks]
        retrained = [self.sweep, self.trials, self.retrain, self.adapter, self.merged, self.padded]
        retrained += [self.predictions, self.references, self.metrics]
        reported = [self.figures, self.report]
        return {
            "all": searched + retrained + reported,
            # What was retrained at the ranks of before is no longer this run's.
            "search": searched + retrained + reported,
            "retrain": retrained + reported,
            "report": reported,
        }[stage]


def open_folder(config: RunConfig, stage: Stage, overwrite: bool) -> RunFolder:
    """The run's folder, made if need be; `overwrite` clears what the asked stage wrote before.

    Raises UserError when the stage is already finished there (its report is drawn), or the folder cannot be written.
    """
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    searches = config.method in SEARCHING
    if stage == "search" and not searches:
        raise UserError(
            f"--stage: 'search' is not allowed for --method {config.method}, which has none; allowed: all, retrain"
        )
    finished = {"all": folder.metrics, "retrain": folder.metrics, "search": folder.ranks}.get(stage)
    if finished is not None and finished.exists() and folder.report.exists() and not overwrite:
        raise UserError(
            f"--name: {folder.root} already holds a finished run; --overwrite replaces it, --name starts another, "
            f"--stage report only draws it again"
        )
    if stage == "report" and not searches and not folder.metrics.exists():
        raise UserError(f"--stage report: {folder.metrics} does not exist; --stage all writes it")
    if stage in ("retrain", "report") and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage {stage}: {folder.ranks} does not exist; --stage search writes it (or write it by hand)"
        )
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in folder.outputs(stage):
                remove(path)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {folder.root} ({error.strerror})") from error
    return folder


@contextmanager
def nothing_left_when_refused(folder: RunFolder) -> Iterator[None]:
    """After a UserError in a folder where nothing was begun before and nothing was trained since, takes back what
    was written."""
    before = set(folder.root.iterdir())
    try:
        yield
    except UserError:
        if not any(path.exists() for path in (folder.search, folder.trials, folder.retrain, folder.metrics)):
            for path in (folder.config, folder.root / "wandb", folder.wandb_id, folder.figures):
                if path not in before:
                    remove(path)
        raise


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new content, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises UserError that names the file when it holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not readable as YAML ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: needs keys with values; holds {content!r:.60}")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, or nothing when there is no such file (ranks written by hand have no search)."""
    if not path.exists():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def write_json(path: Path, value: Any) -> None:
    """`write_text` of a value as indented JSON; refuses NaN, which JSON has not."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as `write_text` does a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, path)
