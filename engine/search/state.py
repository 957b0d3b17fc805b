"""Everything that a search needs to resume as if it had never stopped, as tensors and JSON."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.search.engine import RanksSettled, SearchEngine
from engine.search.trajectory import Trajectory
from problems.bilevel import BilevelProblem
from problems.machine.compute import random_state, set_random_state

_LAST = ("last_loss", "direct", "implicit", "skip_count")


def snapshot(
    engine: SearchEngine, settled: RanksSettled, trajectory: Trajectory
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, beta, both optimisers and schedulers, random states, loader positions, counters, trajectory.

    Called by all processes of the run.
    """
    tensors: dict[str, Tensor] = trajectory.tensors()
    state: dict[str, Any] = {
        "step": engine.global_step,
        "settled": {"last": settled.last, "unchanged": settled.unchanged},
        "passes": vars(engine.lora.passes),
        "python_random": _as_list(random.getstate()),
    }
    kind, keys, *rest = np.random.get_state()
    tensors["random.numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    state["numpy_random"] = [str(kind), *(float(x) for x in rest)]
    for rank, states in enumerate(engine.lora.processes.gathered(random_state(engine.lora.compute.device))):
        tensors |= {_random_key(name, rank): value for name, value in states.items()}
    for problem in (engine.lora, engine.selection):
        state[problem.name] = _problem_state(problem, tensors)
    return tensors, state


def restore(
    engine: SearchEngine,
    settled: RanksSettled,
    trajectory: Trajectory,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
) -> None:
    """Puts a `snapshot` back into freshly built problems."""
    engine.global_step = state["step"]
    settled.last, settled.unchanged = state["settled"]["last"], state["settled"]["unchanged"]
    engine.lora.passes.forward = state["passes"]["forward"]
    engine.lora.passes.backward = state["passes"]["backward"]
    trajectory.restore(tensors)
    for problem in (engine.lora, engine.selection):
        _restore_problem(problem, tensors, state[problem.name])
    random.setstate(_as_tuple(state["python_random"]))
    kind, position, has_gauss, gauss = state["numpy_random"]
    np.random.set_state(
        (kind, tensors["random.numpy"].numpy().astype(np.uint32), int(position), int(has_gauss), gauss)
    )
    device, rank = engine.lora.compute.device, engine.lora.processes.rank
    keys_of_masks = {name: _random_key(name, rank) for name in random_state(device)}
    # More processes than before: a new one goes on drawing from its own seed.
    if all(key in tensors for key in keys_of_masks.values()):
        set_random_state({name: tensors[key] for name, key in keys_of_masks.items()}, device)


def _random_key(name: str, rank: int) -> str:
    """Each process draws its own dropout masks."""
    return f"random.{name}" if rank == 0 else f"random.{name}.{rank}"


def _problem_state(problem: BilevelProblem, tensors: dict[str, Tensor]) -> dict[str, Any]:
    for index, parameter in enumerate(problem.trained):
        tensors[f"{problem.name}.parameter.{index}"] = parameter
        for key, value in problem.optimizer.state[parameter].items():
            tensors[f"{problem.name}.optimizer.{index}.{key}"] = value
    # What the log shows until the next outer step, which may be `unroll_steps` away.
    for key in _LAST:
        if hasattr(problem, key):
            tensors[f"{problem.name}.{key}"] = getattr(problem, key)
    loader = problem.train_data_loader[0]
    groups = [{k: v for k, v in g.items() if k != "params"} for g in problem.optimizer.param_groups]
    return {
        "count": problem._count,
        "loader": [loader.epoch, loader.position],
        "groups": groups,
        "scheduler": None if problem.scheduler is None else _plain(problem.scheduler.state_dict()),
    }


@torch.no_grad()
def _restore_problem(problem: BilevelProblem, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    problem._count = state["count"]
    loader = problem.train_data_loader[0]
    loader.epoch, loader.position = state["loader"]
    # An iterator that has already begun would not hear of the new position.
    problem.train_data_iterator = [iter(loader)]
    for group, values in zip(problem.optimizer.param_groups, state["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    if problem.scheduler is not None:
        problem.scheduler.load_state_dict(dict(state["scheduler"]))
    for key in _LAST:
        if hasattr(problem, key):
            setattr(problem, key, tensors[f"{problem.name}.{key}"].to(problem.compute.device))
    for index, parameter in enumerate(problem.trained):
        parameter.copy_(tensors[f"{problem.name}.parameter.{index}"])
        prefix = f"{problem.name}.optimizer.{index}."
        problem.optimizer.state[parameter] = {
            # Adam keeps its step counter on the CPU (unless fused), the moments where the parameter is.
            name.removeprefix(prefix): value.clone()
            if name.endswith(".step") and not problem.optimizer.defaults.get("fused")
            else value.to(parameter.device, copy=True)
            for name, value in tensors.items()
            if name.startswith(prefix)
        }


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state as JSON holds it; its functions follow from the configuration, None keeps torch's as they
    are."""
    functions = {"lr_lambdas": [None] * len(state["lr_lambdas"])} if "lr_lambdas" in state else {}
    simple = {k: v for k, v in state.items() if isinstance(v, int | float | bool | str | list | type(None))}
    return simple | functions


def _as_list(value: Any) -> Any:
    return [_as_list(x) for x in value] if isinstance(value, tuple) else value


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(x) for x in value) if isinstance(value, list) else value
