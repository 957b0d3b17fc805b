"""The cost of a step of each hypergradient; measuring it leaves the search as it was."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.resources import STATUS
from autolora.engine.search.cost import measure_cost
from autolora.engine.search.engine import RanksSettled
from autolora.engine.search.stage import build_search
from autolora.engine.search.state import snapshot
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.hypergradients import HYPERGRADIENTS, Hypergradient, Inner, Outer, Tensors
from tests.helpers.documented_passes import documented_passes

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def engine(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> Any:
    torch.set_default_dtype(torch.float32)
    made = build_search(run_of(tiny_config("--search.batch_size", "4")), second_order=True)
    made.train()
    made.global_step = 1
    made.train_step()
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same numbers, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.trains
def test_measuring_the_cost_leaves_the_engine_as_it_was(engine: Any) -> None:
    def state() -> Any:
        trajectory = Trajectory(engine.lora.gates.names)
        trajectory.add(0, engine.alpha(), engine.contribution())
        return deepcopy(snapshot(engine, RanksSettled(0), trajectory))

    before = state()
    kind = engine.lora.config.type
    rows = measure_cost(engine, rounds=1)
    assert [row["approximation"] for row in rows] == ["lora", *HYPERGRADIENTS]
    assert rows[0]["ratio_to_lora"] == 1
    assert all(0 < row["lowest_ratio"] <= row["ratio_to_lora"] <= row["highest_ratio"] for row in rows)
    assert (rows[0]["forward_passes"], rows[0]["backward_passes"]) == (1, 1)
    assert all(row["seconds"] > 0 for row in rows)
    assert engine.lora.config.type == kind
    assert same(state(), before)


@pytest.mark.trains
def test_the_cost_of_several_inner_steps_has_its_outer_one(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    torch.set_default_dtype(torch.float32)
    config = tiny_config("--search.batch_size", "4", "--search.unroll_steps", "2")
    engine = build_search(run_of(config), second_order=True)
    engine.train()
    for engine.global_step in (1, 2):
        engine.train_step()
    rows = {row["approximation"]: (row["forward_passes"], row["backward_passes"]) for row in measure_cost(engine, 1)}
    assert rows["lora"] == (2, 2)
    for name in HYPERGRADIENTS:
        forward, backward = documented_passes(name, 3)
        more = (2, 3) if HYPERGRADIENTS[name].reads_steps else (1, 1)
        assert rows[name] == (forward + more[0], backward + more[1]), name


@pytest.mark.trains
def test_the_cost_of_accumulated_batches_has_the_passes_of_every_part(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    torch.set_default_dtype(torch.float32)
    config = tiny_config("--search.batch_size", "4", "--search.gradient_accumulation", "2")
    engine = build_search(run_of(config), second_order=True)
    engine.train()
    engine.global_step = 1
    engine.train_step()
    rows = {row["approximation"]: (row["forward_passes"], row["backward_passes"]) for row in measure_cost(engine, 1)}
    assert rows["lora"] == (2, 2)
    assert rows["first_order"][0] >= 4


@pytest.mark.trains
@pytest.mark.parametrize("clipping", ["0", "1"])
def test_a_plain_step_clips_only_where_the_search_does(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    clipping: str,
) -> None:  # fmt: skip
    """Where the search does not clip, the plain step did, to a norm of 0, so that it cost more than it should."""
    torch.set_default_dtype(torch.float32)
    config = tiny_config("--search.gradient_clipping", clipping, "--search.warmup_ratio", "0")
    engine = build_search(run_of(config), second_order=True)
    engine.train()
    clipped: list[int] = []
    monkeypatch.setattr(engine.lora, "clip_grad", lambda: clipped.append(1))
    (row,) = measure_cost(engine, 1, {})
    assert row["approximation"] == "lora"
    assert len(clipped) == (3 if clipping == "1" else 0)


class Hoarding(Hypergradient):
    """Has no implicit term, but needs 300 MiB more than `first_order`."""

    name = "hoarding"

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        torch.ones(300 * 2**17, dtype=torch.float64).sum()
        return [torch.zeros_like(beta) for beta in outer.trainable_parameters()]


@pytest.mark.trains
def test_memory_is_what_a_step_needs_beyond_what_the_search_holds(engine: Any) -> None:
    kept = torch.ones(200 * 2**17, dtype=torch.float64)  # 200 MiB that the process has all the time
    memory = {row["approximation"]: row["memory_mib"] for row in measure_cost(engine, 1, {"hoarding": Hoarding()})}
    assert kept.all()
    if not STATUS.exists():
        assert all(math.isnan(of_one) for of_one in memory.values())
        pytest.skip("the system cannot reset a process's peak")
    assert memory["lora"] < 100
    assert 290 < memory["hoarding"] < 400
