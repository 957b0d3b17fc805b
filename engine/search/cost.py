"""Measure what a step of each hypergradient costs, at the state that a search has reached."""

import dataclasses
import logging
import statistics
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from configs.errors import UserError
from engine.search.engine import RanksSettled, SearchEngine
from engine.search.state import restore, snapshot
from engine.search.trajectory import Trajectory
from problems.hypergradients import HYPERGRADIENTS, Hypergradient, register
from problems.machine.compute import timed

log = logging.getLogger("autolora")


def measure_cost(
    engine: SearchEngine, rounds: int, methods: Mapping[str, Hypergradient] = HYPERGRADIENTS
) -> list[dict[str, Any]]:
    """Seconds and passes of one outer step with its inner steps, for each of `methods` and for plain LoRA steps.

    `ratio_to_lora`: the seconds over those of as many plain LoRA steps. All start from the engine's current state,
    take the same batches, and take turns: one warm-up, then `rounds` timed rounds, of which the median counts;
    `lowest_ratio` and `highest_ratio` are those of the shortest and of the longest round. Then the engine's state is
    restored. An approximation of the user's that fails is left out, with a warning.
    """
    kept_type = engine.lora.config.type
    timed_ones: dict[str, Hypergradient | None] = {"lora": None, **methods}
    seconds: dict[str, list[float]] = {name: [] for name in timed_ones}
    passes: dict[str, tuple[int, int]] = {}
    trajectory = Trajectory(engine.lora.gates.names)
    trajectory.add(0, engine.alpha(), engine.contribution())
    settled = RanksSettled(0)
    kept = deepcopy(snapshot(engine, settled, trajectory))
    for round_number in range(rounds + 1):
        for name, method in list(timed_ones.items()):
            restore(engine, settled, trajectory, kept)
            before = dataclasses.replace(engine.lora.passes)
            try:
                spent = timed(partial(_steps, engine, method), engine.lora.compute.device)
            except UserError as error:
                log.warning("the costs leave out %s: %s", name, error)
                del timed_ones[name]
            finally:
                engine.lora.config.type = kept_type
            if name in timed_ones and round_number > 0:
                seconds[name].append(spent)
            now = engine.lora.passes
            passes[name] = (now.forward - before.forward, now.backward - before.backward)
    restore(engine, settled, trajectory, kept)
    floor = statistics.median(seconds["lora"])
    return [
        {
            "approximation": name,
            "seconds": statistics.median(seconds[name]),
            "ratio_to_lora": statistics.median(seconds[name]) / floor,
            "lowest_ratio": min(seconds[name]) / floor,
            "highest_ratio": max(seconds[name]) / floor,
            "forward_passes": passes[name][0],
            "backward_passes": passes[name][1],
        }
        for name in timed_ones
    ]


def _steps(engine: SearchEngine, method: Hypergradient | None) -> None:
    """Takes the inner steps up to the next outer step, and that outer step; for None, as many plain LoRA steps."""
    if method is not None:
        engine.lora.config.type = register(method)
    for _ in range(engine.lora.config.unroll_steps):
        _plain_step(engine) if method is None else engine.train_step()


def _plain_step(engine: SearchEngine) -> None:
    """One step of plain LoRA training: forward, backward, clip, optimiser step."""
    lora = engine.lora
    for batch, share in lora.parts(lora.get_batch()):
        lora.passes.forward += 1
        lora.passes.backward += 1
        with lora.compute.autocast():
            loss = lora.module(**batch).loss
        (loss * share).backward()
    lora.clip_grad()
    lora.optimizer.step()
    lora.zero_grad()
