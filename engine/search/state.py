"""Save and restore the state of a search after an outer step, so that a resumed search ends with the same bits as one
without a stop. It holds no random state: every batch and its dropout masks follow from the seed and the step."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from autolora.engine.search.engine import SearchEngine
from autolora.problems.bilevel import Level

# Values that log lines show until the next step of the level sets them.
_LAST = ("last_loss", "direct", "implicit", "skipped_steps")


def snapshot(engine: SearchEngine) -> dict[str, Any]:
    """Weights, beta, both optimisers, the scheduler, what the hypergradient carries, and counters. The tensors are not
    copied, so the next step changes them."""
    return {
        "step": engine.global_step,
        "settled": {"last": engine.settled.last, "unchanged": engine.settled.unchanged},
        "passes": dict(vars(engine.lora.shared.passes)),
        "problems": {problem.name: _problem_state(problem) for problem in (engine.lora, engine.selection)},
        "hypergradient": engine.selection.state,
    }


def restore(engine: SearchEngine, state: dict[str, Any]) -> None:
    """Loads a `snapshot` into newly built problems; `state` itself does not change."""
    state = deepcopy(state)
    engine.global_step = state["step"]
    vars(engine.settled).update(state["settled"])
    vars(engine.lora.shared.passes).update(state["passes"])
    engine.lora.steps = []
    for problem in (engine.lora, engine.selection):
        _restore_problem(problem, state["problems"][problem.name])
    engine.selection.state = _on(engine.lora.shared.compute.device, state["hypergradient"])


def _problem_state(problem: Level) -> dict[str, Any]:
    optimizer = problem.optimizer.state_dict()
    return {
        "count": problem._count,
        "weights": list(problem.trained),
        "moments": [optimizer["state"].get(index, {}) for index in range(len(problem.trained))],
        "groups": optimizer["param_groups"],
        "scheduler": None if problem.scheduler is None else _plain(problem.scheduler.state_dict()),
        "last": {key: getattr(problem, key) for key in _LAST if hasattr(problem, key)},
    }


@torch.no_grad()
def _restore_problem(problem: Level, state: dict[str, Any]) -> None:
    problem._count = state["count"]
    for parameter, value in zip(problem.trained, state["weights"], strict=True):
        parameter.copy_(value)
    moments = {index: found for index, found in enumerate(state["moments"]) if found}
    problem.optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
    if problem.scheduler is not None:
        problem.scheduler.load_state_dict(state["scheduler"])
    for key, value in state["last"].items():
        setattr(problem, key, value.to(problem.shared.compute.device))


def _on(device: torch.device, state: Any) -> Any:
    """`state` with its tensors on `device`."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _on(device, value) for key, value in state.items()}
    return [_on(device, value) for value in state] if isinstance(state, list | tuple) else state


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The part of a scheduler's state that a checkpoint can hold. Each function is replaced by None, for which torch
    keeps the function that the new scheduler already has."""
    functions = {"lr_lambdas": [None] * len(state["lr_lambdas"])} if "lr_lambdas" in state else {}
    simple = {k: v for k, v in state.items() if isinstance(v, int | float | bool | str | list | type(None))}
    return simple | functions
