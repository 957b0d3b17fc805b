"""`--stage probe`: along one search, how near each hypergradient is to the exact one-step unroll.
It writes probe.json, which the page shows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.configs.requests import Request
from autolora.configs.schema import Autolora
from autolora.configs.search import BUILT_IN
from autolora.engine.disk.files import write_json
from autolora.engine.disk.lock import locked
from autolora.engine.inputs import Inputs, split_of
from autolora.engine.interrupt import StopRequest
from autolora.engine.recipe import algorithm_of, read
from autolora.engine.report.stage import write_report
from autolora.engine.run.logged import logged
from autolora.engine.search.search import prepare_search
from autolora.engine.session import open_store
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Changed, Stage
from autolora.engine.store.overwrite import put_aside
from autolora.engine.store.plan import names_of
from autolora.engine.world import World
from autolora.problems.hypergradients import (
    Hypergradient,
    Inner,
    Outer,
    State,
    Tensors,
    approximation,
)
from autolora.problems.models.base import Base

log = logging.getLogger("autolora")

Eta = float | Literal["lr", "betty"]
Compared = Mapping[tuple[str, Eta], Hypergradient]
"""Name and eta -> an approximation."""


def run_probe(request: Request, stop: StopRequest) -> RunFolder:
    """Probes along the search of these settings, unless the folder has this probe; writes its page.
    The probe of a study is that of the settings outside the section study, in a folder NAME-probe
    of its own.

    Raises UserError for what the user must change, Interrupted if a signal asked to stop.
    """
    config = request.config
    if not isinstance(config, Autolora) or not config.hypergradient.moves_alpha:
        raise UserError(
            "--stage probe: needs method autolora, and a --hypergradient.type other than none"
        )
    # Attention that has second derivatives, and nothing that is rounded to bf16.
    fixed = {
        "name": f"{config.name}-probe" if config.is_study else config.name,
        "model.attention": "eager",
        "model.gradient_checkpointing": False,
        "tracking.wandb": "disabled",
        "precision": "fp32",
        "model.dtype": "fp32",
    }
    config = with_values(config.model_copy(update={"study": None}), fixed)
    folder = RunFolder.of(config)
    with locked(folder.root), logged(folder):
        stage = Stage.of("probe", config, folder)
        store = open_store(config, folder, [stage], stop)
        try:
            stage.check_settings()
            stage.check_files()
            inputs, base = read(config, store)
            if stage.recorded is not None and stage.recorded.names != names_of(config):
                base.lend()
        except Changed:
            if not request.overwrite:
                raise
            put_aside(folder.probe, folder.probe)
            store = open_store(config, folder, [Stage.of("probe", config, folder)], stop)
            inputs, base = read(config, store)
        if not folder.probe_result.exists():
            store.stage("probe", probe, config, inputs, base)
        write_report(config, folder)
    return folder


@dataclass(frozen=True)
class Probed:
    """The distances, and where they were taken."""

    rows: Sequence[Mapping[str, Any]]

    def save(self, root: Path) -> None:
        """Writes probe/probe.json."""
        write_json(root / "probe" / "probe.json", {"distance": self.rows})


def probe(config: Autolora, inputs: Inputs, base: Base, world: World) -> Probed:
    """Takes the steps of the search up to the last compared one, and compares there."""
    asked = config.probe
    unroll = config.search.unroll_steps
    # beta moves after each `unroll` steps alone.
    steps = sorted(
        {max(unroll, min(step, config.search.steps) // unroll * unroll) for step in asked.steps}
    )
    log.info(
        "probe: comparing all approximations with the exact one-step unroll at steps %s", steps
    )
    d_tr, d_val = split_of(config, inputs.rows.train)
    algorithm = algorithm_of(config)
    engine = prepare_search(base, d_tr, d_val, inputs.scoring, algorithm, world, second_order=True)
    world.begin()
    compared = {
        place: one for eta in asked.etas for place, one in _approximations(config, eta).items()
    }
    watching = engine.selection.hypergradient = Probe(
        engine.selection.hypergradient, steps, compared
    )
    engine.train_iters = steps[-1]
    engine.patience = 0
    engine.run(lambda engine, over: world.stop.check())
    return Probed(watching.rows)


def _approximations(config: Autolora, eta: Eta) -> dict[tuple[str, Eta], Hypergradient]:
    """All approximations at this eta, with the other values that the settings give; one of the
    user's own is there if the settings name it."""
    given = config.hypergradient.model_dump(exclude={"type"}) | {"eta": eta}
    found = {}
    for name, kind in BUILT_IN.items():
        if kind.moves_alpha:
            read = {key: value for key, value in given.items() if key in kind.model_fields}
            found[name, eta] = approximation(kind.model_validate(read))
    found.setdefault((config.hypergradient.type, eta), approximation(config.hypergradient))
    return found


class Probe(Hypergradient):
    """Wraps the search's approximation, and at the steps in `steps` also evaluates others on the
    same W and batch, under the same dropout masks.

    The search goes on with the wrapped one. Each of the others is compared with `exact` (Eq. 4),
    and with `exact_adamw`, the step that was taken. An approximation with a state is called at
    every outer step. Attribute `rows`: the measurements.
    """

    reads = "every step"

    def __init__(self, wrapped: Hypergradient, steps: Sequence[int], compared: Compared) -> None:
        self.wrapped = wrapped
        self.steps = set(steps)
        self.compared = compared
        self.rows: list[dict[str, Any]] = []

    def start(self, inner: Inner) -> State:
        """The state of the wrapped approximation, and of each other."""
        return {
            "wrapped": self.wrapped.start(inner),
            "compared": {place: x.start(inner) for place, x in self.compared.items()},
        }

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        # First, as what it draws must not depend on the others.
        found, state["wrapped"] = self.wrapped.term(state["wrapped"], v, inner, outer)
        step = outer.count * inner.config.unroll_steps  # the search counts inner steps
        due = step in self.steps
        states = state["compared"]
        terms = {}
        for place, one in self.compared.items():
            if due or states[place]:
                term, states[place] = one.term(states[place], v, inner, outer)
                terms[place] = _flat(term)
        if due:
            direct = outer.direct.cpu().double()
            for name, eta in self.compared:
                exact = terms["exact", eta]
                of_step = terms["exact_adamw", eta]
                distance = _distance(terms[name, eta], exact, of_step, direct)
                row = {"step": step, "approximation": name, "eta": str(eta)}
                self.rows.append(row | distance)
        return found, state


def _distance(
    term: Tensor, exact: Tensor, of_step: Tensor, direct: Tensor
) -> dict[str, float | None]:
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
    return (
        float(a @ reference / (a.norm() * reference.norm()))
        if a.any() and reference.any()
        else None
    )


def _ratio(a: Tensor, reference: Tensor) -> float | None:
    return float(a.norm() / reference.norm()) if reference.any() else None
