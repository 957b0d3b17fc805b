"""What one command line can ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autolora.configs.schema import RunConfig, Stage

Trainer = Literal["peft", "trl", "axolotl", "llama-factory", "unsloth"]


@dataclass(frozen=True)
class Request:
    """Run stages with a configuration; `overwrite` replaces results.

    `given`: the keys on the command line. `notes`: what to tell before the run. `lists`: print a
    study's commands instead of running them.
    """

    config: RunConfig
    stage: Stage = "all"
    overwrite: bool = False
    given: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    lists: bool = False


@dataclass(frozen=True)
class ShowRequest:
    """Print the result and ranks of a run folder, or the lines with which `trainer` uses its ranks;
    run nothing."""

    folder: str
    trainer: Trainer | None = None


@dataclass(frozen=True)
class WorkspaceRequest:
    """Save a wandb view for the project of a run folder; run nothing."""

    folder: str


@dataclass(frozen=True)
class AdapterRequest:
    """Measure an adapter on the rows in `data`, and with `cuts` write a smaller one to `out`.

    `split`: which rows of a data set with splits (None: validation, else test, else the only one).
    `folder`: where measure.json lies (None: beside the adapter). `settings`: keys of a run ->
    values, which say how rows are read and the base model is loaded. `size`: how small the cut is,
    as MeasuredAdapter takes it."""

    adapter: str
    data: str
    cuts: bool
    settings: Mapping[str, Any]
    base: str | None = None
    split: str | None = None
    rows: int = 2000
    folder: str | None = None
    out: str = ""
    size: Mapping[str, Any] = field(default_factory=dict)
    test: str | None = None
    padded: bool = False


Command = Request | ShowRequest | WorkspaceRequest | AdapterRequest
