"""Measure what a step of each hypergradient costs, at the state that a search has reached."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from autolora.engine.run.resources import extra_memory
from autolora.engine.search.engine import RanksSettled, SearchEngine
from autolora.engine.search.state import restore, snapshot
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.hypergradients import HYPERGRADIENTS, Hypergradient, register
from autolora.problems.level import Passes
from autolora.problems.machine.compute import timed


def measure_cost(
    engine: SearchEngine, rounds: int, methods: Mapping[str, Hypergradient] = HYPERGRADIENTS
) -> list[dict[str, Any]]:
    """Seconds, passes and MiB of one outer step with its inner steps, for each of `methods` and for plain LoRA steps.

    `ratio_to_lora`: the seconds over those of as many plain LoRA steps. All start from the engine's current state,
    take the same batches, and take turns: one warm-up, then `rounds` timed rounds, of which the median counts;
    `lowest_ratio` and `highest_ratio` are those of the shortest and of the longest round. `memory_mib` is of one more
    round: the peak beyond what the search holds between its steps (NaN where the system cannot tell). Then the
    engine's state is restored.
    """
    measured = {"lora": _Spent(), **{name: _Spent() for name in methods}}
    with _one_state(engine) as begin_again:
        for turn in range(1 + rounds + 1):  # the warm-up, the timed rounds, and that of the memory
            for name in measured:
                begin_again()
                _measure(engine, methods.get(name), measured[name], of_memory=turn > rounds)
    floor = measured["lora"].median
    return [
        {
            "approximation": name,
            "seconds": spent.median,
            "ratio_to_lora": spent.median / floor,
            "lowest_ratio": min(spent.timed) / floor,
            "highest_ratio": max(spent.timed) / floor,
            "forward_passes": spent.passes.forward,
            "backward_passes": spent.passes.backward,
            "memory_mib": spent.memory_mib,
        }
        for name, spent in measured.items()
    ]


@dataclass
class _Spent:
    """What the turns of one method took: seconds of each, the first one a warm-up; passes and memory of one turn."""

    seconds: list[float] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)
    memory_mib: float = float("nan")

    @property
    def timed(self) -> list[float]:
        return self.seconds[1:]

    @property
    def median(self) -> float:
        return statistics.median(self.timed)


@contextmanager
def _one_state(engine: SearchEngine) -> Iterator[Callable[[], None]]:
    """Inside `with`: a function that puts the engine back into its present state, which it also has afterwards."""
    kept_type, settled, trajectory = engine.lora.config.type, RanksSettled(0), Trajectory(engine.lora.gates.names)
    trajectory.add(0, engine.alpha(), engine.contribution())
    kept = deepcopy(snapshot(engine, settled, trajectory))

    def begin_again() -> None:
        engine.lora.config.type = kept_type
        restore(engine, settled, trajectory, kept)

    yield begin_again
    begin_again()


def _measure(engine: SearchEngine, method: Hypergradient | None, spent: _Spent, *, of_memory: bool) -> None:
    """Takes one turn of a method, or of plain LoRA for None, and adds its seconds or its memory to `spent`."""
    steps, compute, before = partial(_steps, engine, method), engine.lora.compute, replace(engine.lora.passes)
    if of_memory:
        spent.memory_mib = extra_memory(steps, compute)
    else:
        spent.seconds.append(timed(steps, compute.device))
    now = engine.lora.passes
    spent.passes = Passes(now.forward - before.forward, now.backward - before.backward)


def _steps(engine: SearchEngine, method: Hypergradient | None) -> None:
    """Takes the inner steps up to the next outer step, and that outer step; for None, as many plain LoRA steps."""
    if method is not None:
        engine.lora.config.type = register(method)
    for _ in range(engine.lora.config.unroll_steps):
        _plain_step(engine) if method is None else engine.train_step()


def _plain_step(engine: SearchEngine) -> None:
    """One step of plain LoRA training: forward, backward, clip (where the search clips, too), optimiser step."""
    lora = engine.lora
    for batch, share in lora.parts(lora.get_batch()):
        lora.passes.forward += 1
        lora.passes.backward += 1
        with lora.compute.autocast():
            loss = lora.module(**batch).loss
        (loss * share).backward()
    if lora.gradient_clipping > 0:
        lora.clip_grad()
    lora.optimizer.step()
    lora.zero_grad()
