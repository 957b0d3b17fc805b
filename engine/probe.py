"""`--stage probe`: along one search, how near each hypergradient is to the exact one-step unroll, and what its outer
step costs. It writes probe.json, which the page shows."""

import dataclasses
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.configs.requests import Request
from autolora.configs.schema import Autolora
from autolora.configs.search import BUILT_IN, Exact, ExactAdamW, FirstOrder
from autolora.engine.disk.files import write_json
from autolora.engine.disk.lock import locked
from autolora.engine.report.stage import write_report
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.logged import logged
from autolora.engine.run.manifest import Changed, Stage, names_of
from autolora.engine.run.opening import put_aside
from autolora.engine.run.resources import computed_on, extra_memory
from autolora.engine.search.search import SearchEngine, build_search, restore, snapshot
from autolora.problems.hypergradients import Hypergradient, Inner, Outer, State, Tensors, approximation
from autolora.problems.machine.compute import timed
from autolora.problems.models.precision import weights_in_fp32

log = logging.getLogger("autolora")

Eta = float | Literal["lr", "betty"]
Compared = Mapping[tuple[str, Eta], Hypergradient]
"""Name and eta -> an approximation."""


def run_probe(request: Request, stop: StopRequest) -> RunFolder:
    """Probes along the search of these settings, unless the folder has this probe; writes its page. The probe of a
    study is that of the settings outside the section study, in a folder NAME-probe of its own.

    Raises UserError for what the user must change, Interrupted if a signal asked to stop.
    """
    config = request.config
    if not isinstance(config, Autolora) or not config.hypergradient.moves_alpha:
        raise UserError("--stage probe: needs method autolora, and a --hypergradient.type other than none")
    # Attention that has second derivatives, and nothing that changes the memory of a step.
    fixed = {"name": f"{config.name}-probe" if config.is_study else config.name, "model.attention": "eager",
             "model.gradient_checkpointing": False, "tracking.wandb": "disabled"}  # fmt: skip
    config = with_values(config.model_copy(update={"study": None}), fixed)
    folder = RunFolder.of(config)
    with locked(folder.root), logged(folder):
        stage = Stage.of("probe", config, folder)
        run = Context(config, stop, folder=folder, stages=[stage])
        try:
            stage.check_settings()
            run.know_rows()
            if stage.recorded is not None and stage.recorded.names != names_of(config):
                run.base()
        except Changed:
            if not request.overwrite:
                raise
            put_aside(folder.probe, folder.probe)
            run = Context(config, stop, folder=folder, stages=[Stage.of("probe", config, folder)])
        if not folder.probe_result.exists():
            write_json(folder.probe_result, probe(run))
        write_report(config, folder)
    return folder


def probe(run: Context) -> dict[str, Any]:
    """Takes the steps of the search up to the last compared one, then times a step of each approximation. Returns
    both lists, and on what they were measured."""
    config = run.searched
    asked, unroll = config.probe, config.search.unroll_steps
    # beta moves after each `unroll` steps alone.
    steps = sorted({max(unroll, min(step, config.search.steps) // unroll * unroll) for step in asked.steps})
    log.info("probe: comparing all approximations with the exact one-step unroll at steps %s", steps)
    engine = build_search(run, second_order=True)
    run.begin("probe")
    compared = {place: one for eta in asked.etas for place, one in _approximations(config, eta).items()}
    watching = engine.selection.hypergradient = Probe(engine.selection.hypergradient, steps, compared)
    engine.train_iters, engine.patience = steps[-1], 0
    engine.run(lambda engine, over: run.stop.check())
    log.info("probe: timing a step of each approximation")
    cost = measure_cost(engine, asked.timed_steps, _approximations(config, asked.etas[0]))
    on = computed_on(run.compute) | {"threads": torch.get_num_threads()}
    return {"on": on, "distance": watching.rows, "cost": cost}


def _approximations(config: Autolora, eta: Eta) -> dict[tuple[str, Eta], Hypergradient]:
    """All approximations at this eta, with the other values that the settings give; one of the user's own is there if
    the settings name it."""
    given = config.hypergradient.model_dump(exclude={"type"}) | {"eta": eta}
    found = {}
    for name, kind in BUILT_IN.items():
        if kind.moves_alpha:
            read = {key: value for key, value in given.items() if key in kind.model_fields}
            found[name, eta] = approximation(kind.model_validate(read))
    found.setdefault((config.hypergradient.type, eta), approximation(config.hypergradient))
    return found


class Probe(Hypergradient):
    """Wraps the search's approximation, and at the steps in `steps` also evaluates others on the same W and batch,
    under the same dropout masks.

    The search goes on with the wrapped one. Each of the others is compared with `exact` (Eq. 4), and with
    `exact_adamw`, the step that was taken; both are computed in fp32, whatever the precision of the search. An
    approximation with a state is called at every outer step. Attribute `rows`: the measurements.
    """

    reads = "every step"

    def __init__(self, wrapped: Hypergradient, steps: Sequence[int], compared: Compared) -> None:
        self.wrapped = wrapped
        self.steps = set(steps)
        self.compared = compared
        self.rows: list[dict[str, Any]] = []

    def start(self, inner: Inner) -> State:
        """The state of the wrapped approximation, and of each other."""
        return {"wrapped": self.wrapped.start(inner), "compared": [x.start(inner) for x in self.compared.values()]}

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        # First, as what it draws must not depend on the others.
        found, state["wrapped"] = self.wrapped.term(state["wrapped"], v, inner, outer)
        step = outer.count * inner.config.unroll_steps  # the search counts inner steps
        due, states = step in self.steps, state["compared"]
        exact = {eta: _exact(eta, v, inner, outer) for eta in {eta for _, eta in self.compared}} if due else {}
        for number, ((name, eta), one) in enumerate(self.compared.items()):
            if due or states[number]:
                term, states[number] = one.term(states[number], v, inner, outer)
            if due:
                place = {"step": step, "approximation": name, "eta": str(eta)}
                of_eq4, of_step = exact[eta]
                self.rows.append(place | _distance(_flat(term), of_eq4, of_step, outer.direct.cpu().double()))
        return found, state


def _exact(eta: Eta, v: list[Tensor], inner: Inner, outer: Outer) -> list[Tensor]:
    """The implicit terms of a step of gradient descent and of the AdamW step. Nothing is rounded to bf16: no autocast,
    and fp32 copies of frozen bf16 weights."""
    shared = inner.shared
    kept, shared.compute = shared.compute, dataclasses.replace(shared.compute, bf16=False)
    try:
        with weights_in_fp32(inner.module):
            return [_flat(approximation(kind(eta=eta)).term({}, v, inner, outer)[0]) for kind in (Exact, ExactAdamW)]
    finally:
        shared.compute = kept


def _distance(term: Tensor, exact: Tensor, of_step: Tensor, direct: Tensor) -> dict[str, float | None]:
    return {
        "cosine": _cosine(term, exact),
        "step_cosine": _cosine(term, of_step),
        "norm_ratio": _ratio(term, exact),
        "total_cosine": _cosine(direct + term, direct + exact),
        "implicit_to_direct": _ratio(term, direct),
    }


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors]).cpu().double()


def _cosine(a: Tensor, reference: Tensor) -> float | None:
    """The cosine; None if one of the two is zero, as the implicit term of `first_order` is."""
    return float(a @ reference / (a.norm() * reference.norm())) if a.any() and reference.any() else None


def _ratio(a: Tensor, reference: Tensor) -> float | None:
    return float(a.norm() / reference.norm()) if reference.any() else None


def measure_cost(engine: SearchEngine, rounds: int, compared: Compared) -> list[dict[str, Any]]:
    """Seconds, passes and MiB of one outer step with its inner steps, for each approximation and for plain LoRA.

    `ratio_to_lora`: the seconds over those of as many plain LoRA steps. All start from the engine's current state,
    take the same batches, and take turns: a warm-up, then `rounds` timed rounds, of which the median counts.
    `memory_mib` is of one more round: the peak beyond what the search holds between its steps (None where the system
    cannot tell).
    """
    kept, compute = deepcopy(snapshot(engine)), engine.lora.shared.compute
    methods = {"lora": None} | {name: one for (name, _), one in compared.items()}
    rows: dict[str, dict[str, Any]] = {name: {"approximation": name, "seconds": []} for name in methods}
    for turn in range(1 + rounds + 1):  # the warm-up, the timed rounds, and that of the memory
        for name, method in methods.items():
            restore(engine, kept | {"hypergradient": None})
            row, passes, steps = rows[name], engine.lora.shared.passes, partial(_steps, engine, method)
            before = dataclasses.replace(passes)
            if turn > rounds:
                memory = extra_memory(steps, compute)
                row["memory_mib"] = None if math.isnan(memory) else memory
            else:
                row["seconds"].append(timed(steps, compute.device))
            row["forward_passes"] = passes.forward - before.forward
            row["backward_passes"] = passes.backward - before.backward
    for row in rows.values():
        row["seconds"] = statistics.median(row["seconds"][1:])
        row["ratio_to_lora"] = row["seconds"] / rows["lora"]["seconds"]
    return list(rows.values())


def _steps(engine: SearchEngine, method: Hypergradient | None) -> None:
    """Takes the inner steps up to the next outer step, and that outer step; for None, the inner steps alone, with
    nothing for beta, as plain LoRA does."""
    engine.selection.hypergradient = method or approximation(FirstOrder())
    for _ in range(engine.lora.config.unroll_steps):
        if method is None:
            engine.lora._count += 1
            engine.lora.one_step_descent()
        else:
            engine.train_step()
