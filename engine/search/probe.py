"""Compare the approximations along one search: how near each is to the exact one-step unroll, and what its step
costs."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autolora.configs.search import Exact, ExactAdamW
from autolora.engine.run.resources import extra_memory
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.state import restore, snapshot
from autolora.problems.hypergradients import Hypergradient, Inner, Outer, State, Tensors, approximation
from autolora.problems.machine.compute import timed
from autolora.problems.models.precision import weights_in_fp32

Eta = float | str
Compared = Mapping[str, Hypergradient]


class Probe(Hypergradient):
    """Wraps the search's approximation, and at the steps in `steps` also evaluates others on the same W and batch,
    under the same dropout masks.

    The search goes on with the wrapped one. `compared`: eta -> name -> an approximation. Each is compared with `exact`
    (Eq. 4), and with `exact_adamw`, the step that was taken; both are computed in fp32, whatever the precision of the
    search. An approximation with a state is called at every outer step. Attribute `rows`: the measurements.
    """

    reads = "every step"

    def __init__(self, wrapped: Hypergradient, steps: Sequence[int], compared: Mapping[Eta, Compared]) -> None:
        self.wrapped = wrapped
        self.steps = set(steps)
        self.compared = compared
        self.rows: list[dict[str, Any]] = []

    def start(self, inner: Inner) -> State:
        """The state of each approximation, under its eta and name."""
        states = {
            str(eta): {name: one.start(inner) for name, one in named.items()} for eta, named in self.compared.items()
        }
        return {"wrapped": self.wrapped.start(inner), "compared": states}

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        # First, as what it draws must not depend on the others.
        found, state["wrapped"] = self.wrapped.term(state["wrapped"], v, inner, outer)
        step = outer.count * inner.config.unroll_steps  # the search counts inner steps
        for eta, named in self.compared.items():
            states = state["compared"][str(eta)]
            due = {name: one for name, one in named.items() if step in self.steps or states[name]}
            terms = {}
            for name, one in due.items():
                term, states[name] = one.term(states[name], v, inner, outer)
                terms[name] = _flat(term)
            if step in self.steps:
                self._compare(step, eta, terms, v, inner, outer)
        return found, state

    def _compare(self, step: int, eta: Any, terms: Mapping[str, Tensor], v: Any, inner: Inner, outer: Outer) -> None:
        with _in_fp32(inner):
            exact, of_step = (
                _flat(approximation(kind(eta=eta)).term({}, v, inner, outer)[0]) for kind in (Exact, ExactAdamW)
            )
        direct = outer.direct.cpu().double()
        self.rows += [
            {
                "step": step,
                "approximation": name,
                "eta": str(eta),
                "cosine": _cosine(implicit, exact),
                "step_cosine": _cosine(implicit, of_step),
                "norm_ratio": _ratio(implicit, exact),
                "total_cosine": _cosine(direct + implicit, direct + exact),
                "implicit_to_direct": _ratio(implicit, direct),
            }
            for name, implicit in terms.items()
        ]


@contextmanager
def _in_fp32(inner: Inner) -> Any:
    """Inside the context nothing is rounded to bf16: no autocast, and fp32 copies of frozen bf16 weights."""
    shared = inner.shared
    kept, shared.compute = shared.compute, replace(shared.compute, bf16=False)
    try:
        with weights_in_fp32(inner.module):
            yield
    finally:
        shared.compute = kept


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors]).cpu().double()


def _cosine(a: Tensor, reference: Tensor) -> float:
    """The cosine; NaN if one of the two is zero, as the implicit term of `first_order` is."""
    if not (reference.any() and a.any()):
        return float("nan")
    return float(a @ reference) / float(a.norm() * reference.norm())


def _ratio(a: Tensor, reference: Tensor) -> float:
    return float(a.norm() / reference.norm()) if reference.any() else float("nan")


def measure_cost(engine: SearchEngine, rounds: int, compared: Compared) -> list[dict[str, Any]]:
    """Seconds, passes and MiB of one outer step with its inner steps, for each approximation and for plain LoRA.

    `ratio_to_lora`: the seconds over those of as many plain LoRA steps. All start from the engine's current state,
    take the same batches, and take turns: a warm-up, then `rounds` timed rounds, of which the median counts.
    `memory_mib` is of one more round: the peak beyond what the search holds between its steps (NaN where the system
    cannot tell).
    """
    kept, follows, compute = deepcopy(snapshot(engine)), engine.selection.hypergradient, engine.lora.shared.compute
    seconds: dict[str, list[float]] = {name: [] for name in ("lora", *compared)}
    passes, memory = {}, {}
    for turn in range(1 + rounds + 1):  # the warm-up, the timed rounds, and that of the memory
        for name in seconds:
            restore(engine, kept | {"hypergradient": None})
            steps, before = partial(_steps, engine, compared.get(name)), replace(engine.lora.shared.passes)
            if turn > rounds:
                memory[name] = extra_memory(steps, compute)
            else:
                seconds[name].append(timed(steps, compute.device))
            now = engine.lora.shared.passes
            passes[name] = (now.forward - before.forward, now.backward - before.backward)
    engine.selection.hypergradient = follows
    restore(engine, kept)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    return [
        {
            "approximation": name,
            "seconds": medians[name],
            "ratio_to_lora": medians[name] / medians["lora"],
            "forward_passes": passes[name][0],
            "backward_passes": passes[name][1],
            "memory_mib": memory[name],
        }
        for name in seconds
    ]


def _steps(engine: SearchEngine, method: Hypergradient | None) -> None:
    """Takes the inner steps up to the next outer step, and that outer step; for None, as many plain LoRA steps."""
    if method is not None:
        engine.selection.hypergradient = method
    for _ in range(engine.lora.config.unroll_steps):
        _plain_step(engine) if method is None else engine.train_step()


def _plain_step(engine: SearchEngine) -> None:
    """One step of plain LoRA training: forward, backward, clip (where the search clips, too), optimiser step."""
    lora, passes = engine.lora, engine.lora.shared.passes
    lora.gates.values = None
    lora._count += 1
    for batch, share in lora.get_batch().parts:
        passes.forward += 1
        passes.backward += 1
        with lora.shared.compute.autocast():
            loss = lora.module(**batch).loss
        (loss * share).backward()
    if lora.gradient_clipping > 0:
        torch.nn.utils.clip_grad_norm_(lora.trained, lora.gradient_clipping)
    lora.optimizer.step()
    lora.zero_grad()
