"""The configuration of a study: many runs, and the comparison of hypergradients from one trained state."""

from dataclasses import dataclass, field
from typing import Literal

from configs import ranges


@dataclass(frozen=True)
class ProbeConfig:
    """Comparison of all approximations with the exact hypergradient, from one trained state each time."""

    steps: ranges.Steps = field(default_factory=list)
    """Search steps after which they are compared, up to search.steps and where an outer step is taken (multiples of
    search.unroll_steps); empty: no comparison."""
    etas: ranges.Etas = field(default_factory=lambda: ["lr", "betty"])
    """Values of hypergradient.eta to compare at."""
    timed_steps: ranges.Count = 5
    """How many outer steps of each approximation, with their inner steps, are timed after the last comparison, in turn
    with as many steps of plain LoRA."""


@dataclass(frozen=True)
class RayConfig:
    """Where the cells of a study run with launcher ray."""

    address: str | None = None
    """HOST:PORT of the running cluster that this machine is part of, or auto to find it; null starts Ray here.
    Project, run and data folders must lie at the same path on every machine."""
    cpus: ranges.Positive = 1.0
    """Cores for each cell; they decide how many cells run at a time."""
    gpus: ranges.Gpus = None
    """GPUs for each cell; null: one where any machine has one; 0.5 lets two cells share one, 0 leaves them unused."""
    retries: ranges.CountFromZero = 3
    """How many times a cell resumes from its last checkpoint after its worker or machine has died."""


@dataclass(frozen=True)
class StudyConfig:
    """Many runs: every combination of the values on the axes is one run (a cell)."""

    axes: ranges.Axes = field(default_factory=dict)
    """Key of this configuration -> its values, as hypergradient.type: [darts, exact]. Empty: no study, one run."""
    variants: ranges.Variants = field(default_factory=dict)
    """One more axis, of named settings: name -> {key: value}, as w/o constraint: {search.constraint: none}."""
    where: ranges.Where = field(default_factory=dict)
    """Further settings of the cells that have one value on an axis: axis -> value -> {key: value}, as task.name: {qqp:
    {retrain.epochs: 10}}. Values as in YAML: null, true, 1e-3, [query]."""
    sweep_once: bool = False
    """All seeds with the same retrain.learning_rates use the rate that the first of them chose."""
    launcher: Literal["serial", "ray"] = "serial"
    """serial: one cell after the other in this process; ray: side by side, on this machine or a cluster."""
    ray: RayConfig = field(default_factory=RayConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
