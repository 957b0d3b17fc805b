"""Save and restore the state of a search, so that a resumed search ends with the same bits as one without a stop."""

import random
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autolora.engine.search.engine import RanksSettled, SearchEngine
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.hypergradients import registered
from autolora.problems.level import BilevelProblem
from autolora.problems.machine.compute import random_state, set_random_state

# Further attributes of a problem: its counters, and values that log lines show until the next outer step sets them.
_LAST = ("last_loss", "direct", "implicit", "own_skips", "skipped_steps")


def snapshot(engine: SearchEngine, settled: RanksSettled, trajectory: Trajectory) -> dict[str, Any]:
    """Weights, beta, both optimisers and schedulers, what the hypergradient carries, random states, loader positions,
    counters and trajectory.

    All processes of the run must call it. The tensors are not copied, so the next step changes them.
    """
    numpy: Any = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "step": engine.global_step,
        "settled": {"last": settled.last, "unchanged": settled.unchanged},
        "passes": dict(vars(engine.lora.passes)),
        "trajectory": points(trajectory),
        "python": random.getstate(),
        "numpy": numpy,
        # Each process draws its own dropout masks.
        "masks": engine.lora.processes.gathered(random_state(engine.lora.compute.device)),
        "problems": {problem.name: _problem_state(problem) for problem in (engine.lora, engine.selection)},
        "hypergradient": registered(engine.lora.config.type).state_dict(),
    }


def restore(engine: SearchEngine, settled: RanksSettled, trajectory: Trajectory, state: dict[str, Any]) -> None:
    """Loads a `snapshot` into newly built problems; `state` itself does not change."""
    state = deepcopy(state)
    engine.global_step = state["step"]
    vars(settled).update(state["settled"])
    vars(engine.lora.passes).update(state["passes"])
    restore_points(trajectory, state["trajectory"])
    # Searches that read these steps save only right after an outer step, where a new list begins.
    engine.lora.forget_steps()
    for problem in (engine.lora, engine.selection):
        _restore_problem(problem, state["problems"][problem.name])
    registered(engine.lora.config.type).load_state_dict(
        _on(engine.lora.compute.device, state.get("hypergradient", {}))
    )
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    numpy = state["numpy"]
    numpy["state"]["key"] = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy)
    device, rank = engine.lora.compute.device, engine.lora.processes.rank
    # For an additional process, or on another kind of device, the snapshot has no random state: the seeded one stays.
    if rank < len(state["masks"]) and state["masks"][rank].keys() == random_state(device).keys():
        set_random_state(state["masks"][rank], device)


def points(trajectory: Trajectory) -> dict[str, Tensor]:
    """The logged points as tensors for the checkpoint."""
    return {
        "steps": torch.tensor(trajectory.steps),
        "alpha": torch.from_numpy(np.stack(trajectory.alpha)),
        "contribution": torch.from_numpy(np.stack(trajectory.contribution)),
    }


def restore_points(trajectory: Trajectory, tensors: dict[str, Tensor]) -> None:
    """Replaces the logged points by those of a checkpoint."""
    trajectory.steps = tensors["steps"].tolist()
    trajectory.alpha = list(tensors["alpha"].numpy())
    trajectory.contribution = list(tensors["contribution"].numpy())


def _problem_state(problem: BilevelProblem) -> dict[str, Any]:
    loader, optimizer = problem.train_data_loader[0], problem.optimizer.state_dict()
    return {
        "count": problem._count,
        "epoch": loader.epoch,
        "position": loader.position,
        "weights": list(problem.trained),
        "moments": [optimizer["state"].get(index, {}) for index in range(len(problem.trained))],
        "groups": optimizer["param_groups"],
        "scheduler": None if problem.scheduler is None else _plain(problem.scheduler.state_dict()),
        "last": {key: getattr(problem, key) for key in _LAST if hasattr(problem, key)},
    }


@torch.no_grad()
def _restore_problem(problem: BilevelProblem, state: dict[str, Any]) -> None:
    problem._count = state["count"]
    loader = problem.train_data_loader[0]
    loader.epoch, loader.position = state["epoch"], state["position"]
    # A new iterator, as one that was used before would ignore the new position.
    problem.train_data_iterator = [iter(loader)]
    for parameter, value in zip(problem.trained, state["weights"], strict=True):
        parameter.copy_(value)
    moments = {index: found for index, found in enumerate(state["moments"]) if found}
    problem.optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
    if problem.scheduler is not None:
        problem.scheduler.load_state_dict(state["scheduler"])
    for key, value in state["last"].items():
        setattr(problem, key, value.to(problem.compute.device))


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
