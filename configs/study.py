"""The sections `study` and `verdict`: many runs, and a test of whether the places of the ranks
matter."""

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field

from autolora.configs.section import (
    COST,
    LARGEST,
    CountFromZero,
    Positive,
    Section,
    Text,
)


def word(value: Any) -> str:
    """A value as YAML writes it: null, true, 0.001, [query, value], {rate: 0.1}."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {word(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(word, value))}]"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


class RayConfig(Section):
    """Where the cells of a study run with launcher ray."""

    address: Text | None = None
    """HOST:PORT of the running cluster that this machine is part of; auto: find it; null: start Ray
    on this machine. Project, run and data folders must have the same path on every machine."""
    cpus: Positive = 1.0
    """Cores for each cell; this decides how many cells run at a time."""
    gpus: Annotated[float | None, Field(ge=0, le=LARGEST)] = None
    """GPUs for each cell; 0.5 lets two cells share one, 0 uses none. null: 1 if any machine has a
    GPU, else 0."""


class StudyConfig(Section):
    """Many runs: every combination of the values on the axes is one run (a cell)."""

    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = {}
    """Axis -> its values: a list, such as hypergradient.type: [darts, exact], or names with
    settings, such as variant: {w/o constraint: {search.constraint: none}}. If such an axis is
    itself a key, its names are the key's values: task.name: {cola: {task.path: cola.csv}}. Values
    are written as in YAML: null, true, [query]. There measure.from, lora.ranks_from and
    retrain.init may name another cell: {variant: threshold} is the cell with this value, and the
    same on all other axes."""
    exclude: list[dict[str, Any]] = []
    """Cells to leave out: a list of entries, for example "[{variant: optuna, seed: [1, 2]}]". An
    entry leaves out each cell that has, on every axis in the entry, the given value or one of the
    listed values."""
    rate_from: dict[str, Any] = {}
    """Which cell tries the list in retrain.learning_rate for the others: with {seed: 0} the cells
    that differ only in the seed use the rate that the one of seed 0 chose. Empty: every cell tries
    the list itself."""
    reference: Text | None = None
    """The row with which the paired tables and the picture of L_val compare the others, named as
    the tables name it, for example first_order; p is then corrected for their number. null: the
    first row of method autolora."""
    launcher: Literal["serial", "ray"] = "serial"
    """serial: one cell after the other in this process; ray: several cells at a time, on this
    machine or a cluster."""
    ray: RayConfig | None = None
    others: dict[str, Any] = {}
    """Written by the program: keys of files and of the command that only some cells have."""

    @property
    def places(self) -> list[dict[str, Any]]:
        """Axis -> value, for each cell."""
        every = (
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        )
        return [
            place for place in every if not any(_excludes(entry, place) for entry in self.exclude)
        ]

    @property
    def on(self) -> RayConfig:
        """The section ray, or its defaults."""
        return self.ray or RayConfig()


def _excludes(entry: dict[str, Any], place: dict[str, Any]) -> bool:
    """Whether an entry of study.exclude means this place; a list means each of its values, or
    itself as one value."""
    for axis, named in entry.items():
        meant = {word(named)}
        if isinstance(named, list):
            meant |= {word(value) for value in named}
        if word(place.get(axis)) not in meant:
            return False
    return True


Arm = Literal["uniform", "random"]


class VerdictConfig(Section):
    """Stage verdict trains pairs of models, at the learned ranks and at the same ranks in other
    layers."""

    minutes: Annotated[Positive, COST] = 15.0
    """Minutes after which no further pair is trained; the same command goes on."""
    pairs: Annotated[int, Field(ge=8, le=24, multiple_of=8)] = 24
    """The most pairs that are trained; it cannot change after the first one. With 8, the verdict
    looks once, and p must be at most 0.025. With 16 or 24, it looks after every 8 pairs, and each
    look needs a smaller p; more pairs find smaller differences."""
    rows: CountFromZero = 4000
    """At most this many of the training rows that task.train_rows left unused also judge the pairs,
    besides all evaluation rows."""
    arms: list[Arm] = []
    """Further models that every pair trains for comparison, at other ranks. uniform: the same rank
    (at least 1) in every layer, with about as many parameters as the learned ranks; random: random
    ranks with as many parameters."""
