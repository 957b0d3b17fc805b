"""Measure, during a search, how close each approximation is to the exact one-step unroll, and what its steps cost."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.search.engine import RanksSettled, SearchEngine
from engine.search.state import restore, snapshot
from engine.search.trajectory import Trajectory
from problems.hypergradients import HYPERGRADIENTS, Cost, Hypergradient, Inner, Outer, Tensors, betty_type
from problems.machine.compute import timed

Eta = float | str


class Probe(Hypergradient):
    """Wraps the search's approximation, and at the steps in `steps` also evaluates every approximation on the same W
    and batch, under the same dropout masks.

    The search itself goes on with the wrapped approximation, at its W and with the configured eta. The comparison is
    made once for each of `etas`. Each approximation is compared with `exact` (Eq. 4), and with `exact_adamw`, the step
    that was taken. Both are always computed in fp32 from the same numbers, whatever the precision of the search and of
    its frozen weights. Attribute `rows`: the measurements. Unlike the approximations, this class comes from no paper:
    it only measures.
    """

    name = "probe"
    reads_beta_gradient = True
    reads_last_gradient = True
    second_order = True

    def __init__(self, wrapped: Hypergradient, steps: Sequence[int], etas: Sequence[Eta]) -> None:
        self.wrapped = wrapped
        self.steps = set(steps)
        self.etas = etas
        self.rows: list[dict[str, Any]] = []
        self._step = 0

    def cost(self, terms: int) -> Cost:
        return self.wrapped.cost(terms)

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        # Called once for each outer step, which comes after `unroll_steps` inner steps; the search counts inner steps.
        self._step += inner.config.unroll_steps
        if self._step in self.steps:
            for eta in self.etas:
                with _changed(inner, eta_setting=eta):
                    self._compare(vector, inner, outer, eta)
        return self.wrapped.implicit(vector, inner, outer)

    def _compare(self, vector: Tensors, inner: Inner, outer: Outer, eta: Eta) -> None:
        with inner.in_fp32():
            exact, of_step = (
                _flat(HYPERGRADIENTS[name].implicit(vector, inner, outer)) for name in ("exact", "exact_adamw")
            )
        direct = outer.direct.cpu().double()
        variants = list(HYPERGRADIENTS.items())
        if inner.rounds and not inner.fp32_difference:
            variants.append(("darts, fp32 difference", HYPERGRADIENTS["darts"]))
        for name, method in variants:
            with _changed(inner, fp32_difference=inner.fp32_difference or name.endswith("fp32 difference")):
                implicit = _flat(method.implicit(vector, inner, outer))
            self.rows.append(
                {
                    "step": self._step,
                    "approximation": name,
                    "eta": str(eta),
                    "cosine": _cosine(implicit, exact),
                    "step_cosine": _cosine(implicit, of_step),
                    "norm_ratio": _ratio(implicit, exact),
                    "total_cosine": _cosine(direct + implicit, direct + exact),
                    "implicit_to_direct": _ratio(implicit, direct),
                }
            )


def measure_cost(engine: SearchEngine, rounds: int) -> list[dict[str, Any]]:
    """Seconds and passes of one outer step with its inner steps, for each approximation and for plain LoRA steps.

    `ratio_to_lora`: the seconds over those of as many plain LoRA steps. All start from the engine's current state,
    take the same batches, and take turns: one warm-up, then `rounds` timed rounds, of which the median counts. Then
    the engine's state is restored.
    """
    kept_type = engine.lora.config.type
    names = ["lora", *HYPERGRADIENTS]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    passes: dict[str, tuple[int, int]] = {}
    trajectory = Trajectory(engine.lora.gates.names)
    trajectory.add(0, engine.alpha(), engine.contribution())
    settled = RanksSettled(0)
    kept = deepcopy(snapshot(engine, settled, trajectory))
    for round_number in range(rounds + 1):
        for name in names:
            restore(engine, settled, trajectory, kept)
            before = dataclasses.replace(engine.lora.passes)
            spent = timed(partial(_steps, engine, name), engine.lora.compute.device)
            if round_number > 0:
                seconds[name].append(spent)
            now = engine.lora.passes
            passes[name] = (now.forward - before.forward, now.backward - before.backward)
    restore(engine, settled, trajectory, kept)
    engine.lora.config.type = kept_type
    floor = statistics.median(seconds["lora"])
    return [
        {
            "approximation": name,
            "seconds": statistics.median(seconds[name]),
            "ratio_to_lora": statistics.median(seconds[name]) / floor,
            "forward_passes": passes[name][0],
            "backward_passes": passes[name][1],
        }
        for name in names
    ]


def _steps(engine: SearchEngine, name: str) -> None:
    """Takes the inner steps up to the next outer step, and that outer step; for "lora", as many plain LoRA steps."""
    if name != "lora":
        engine.lora.config.type = betty_type(name)
    for _ in range(engine.lora.config.unroll_steps):
        _plain_step(engine) if name == "lora" else engine.train_step()


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


@contextmanager
def _changed(inner: Inner, **settings: Any) -> Iterator[None]:
    """Inside the `with` block, the inner problem has these values of some attributes."""
    kept = {name: getattr(inner, name) for name in settings}
    try:
        vars(inner).update(settings)
        yield
    finally:
        vars(inner).update(kept)


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors]).cpu().double()


def _cosine(a: Tensor, reference: Tensor) -> float:
    """The cosine; NaN if one of the two is zero, as the implicit term of `first_order` is, and the reference under
    `hypergradient.eta: lr` while the learning rate is 0."""
    if not (reference.any() and a.any()):
        return float("nan")
    return float(a @ reference) / float(a.norm() * reference.norm())


def _ratio(a: Tensor, reference: Tensor) -> float:
    return float(a.norm() / reference.norm()) if reference.any() else float("nan")
