"""The configuration of a study: many runs, and the comparison of hypergradients from one trained state."""

from dataclasses import dataclass, field
from typing import Literal

from autolora.configs import ranges


@dataclass(frozen=True)
class ProbeConfig:
    """One more search after a study's cells, which compares all approximations with the exact one-step unroll."""

    steps: ranges.Steps = field(default_factory=list)
    """Search steps after which all approximations are compared from the same trained state: multiples of
    search.unroll_steps, up to search.steps. Empty: no comparison."""
    etas: ranges.Etas = field(default_factory=lambda: ["lr", "betty"])
    """Values of hypergradient.eta at which they are compared."""
    timed_steps: ranges.Count = 5
    """After the last comparison, this many outer steps of each approximation, with their inner steps, are timed,
    alternating with as many steps of plain LoRA."""


@dataclass(frozen=True)
class RayConfig:
    """Where the cells of a study run with launcher ray."""

    address: str | None = None
    """HOST:PORT of the running cluster that this machine is part of; auto: find it; null: start Ray on this machine.
    Project, run and data folders must have the same path on every machine."""
    cpus: ranges.Positive = 1.0
    """Cores for each cell; this decides how many cells run at a time."""
    gpus: ranges.Gpus = None
    """GPUs for each cell; 0.5 lets two cells share one, 0 uses none. null: 1 if any machine has a GPU, else 0."""
    retries: ranges.CountFromZero = 3
    """How many times a cell resumes from its last checkpoint after its worker or machine has died."""


@dataclass(frozen=True)
class StudyConfig:
    """Many runs: every combination of the values on the axes is one run (a cell)."""

    axes: ranges.Axes = field(default_factory=dict)
    """Key of this configuration -> its values, for example hypergradient.type: [darts, exact]. Without axes and
    variants the command is one run, not a study."""
    variants: ranges.Variants = field(default_factory=dict)
    """One more axis, whose values are named settings: name -> {key: value}, for example
    w/o constraint: {search.constraint: none}."""
    where: ranges.Where = field(default_factory=dict)
    """Additional settings for the cells with a certain value on an axis: axis -> value -> {key: value}, for example
    task.name: {qqp: {retrain.epochs: 10}}. Values are written as in YAML: null, true, 1e-3, [query]."""
    exclude: ranges.Excluded = field(default_factory=list)
    """Cells to leave out: a list of entries, for example "[{variant: optuna, seed: [1, 2]}]". An entry leaves out each
    cell that has, on every axis in the entry, the given value or one of the listed values. Values are written as in
    study.where."""
    sweep_once: bool = False
    """Only the first seed tries retrain.learning_rates; the cells that differ only in the seed use the rate that it
    chose."""
    reference: str | None = None
    """The row with which the paired tables and the picture of L_val compare the others, named as the paired tables
    name it, for example first_order; p is then corrected for their number. null: the first row of method autolora."""
    launcher: Literal["serial", "ray"] = "serial"
    """serial: one cell after the other in this process; ray: several cells at a time, on this machine or a cluster."""
    ray: RayConfig = field(default_factory=RayConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
