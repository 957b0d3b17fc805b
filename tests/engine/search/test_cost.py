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
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.probe import measure_cost
from autolora.engine.search.stage import build_search
from autolora.engine.search.state import snapshot
from autolora.problems.hypergradients import Hypergradient, State
from tests.helpers.bilevel_toys import METHODS, made
from tests.helpers.documented_passes import documented_passes

Build = Callable[..., SearchEngine]


@pytest.fixture
def build(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> Build:
    """An engine after its first outer step."""

    def make(*arguments: str) -> SearchEngine:
        engine = build_search(run_of(tiny_config("--search.batch_size", "4", *arguments)), second_order=True)
        engine.train()
        for _ in range(engine.lora.config.unroll_steps):
            engine.global_step += 1
            engine.train_step()
        return engine

    return make


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
@pytest.mark.parametrize(
    ("arguments", "plain"),
    [((), 1), (("--search.unroll_steps", "2"), 2), (("--search.gradient_accumulation", "2"), 2)],
)
def test_the_cost_of_each_is_measured_and_the_engine_stays_as_it_was(
    build: Build, arguments: tuple[str, ...], plain: int
) -> None:
    engine = build(*arguments)
    before, chosen = deepcopy(snapshot(engine)), engine.selection.hypergradient
    found = measure_cost(engine, 1, {name: made(name) for name in METHODS})
    rows = {row["approximation"]: row for row in found}
    assert list(rows) == ["lora", *METHODS]
    assert rows["lora"]["ratio_to_lora"] == 1
    assert all(row["seconds"] > 0 for row in found)
    assert (rows["lora"]["forward_passes"], rows["lora"]["backward_passes"]) == (plain, plain)
    for name in METHODS if "--search.gradient_accumulation" not in arguments else ():
        forward, backward = documented_passes(name, 3)
        more = (0, 0) if plain == 1 else (2, 3) if name == "unrolled" else (1, 1)
        counted = rows[name]["forward_passes"], rows[name]["backward_passes"]
        assert counted == (forward + more[0], backward + more[1]), name
    assert engine.selection.hypergradient is chosen
    assert same(snapshot(engine), before)


class Hoarding(Hypergradient):
    """Has no implicit term, but needs 300 MiB more than `first_order`."""

    def term(self, state: State, v: Any, inner: Any, outer: Any) -> tuple[list[Tensor], State]:
        torch.ones(300 * 2**17, dtype=torch.float64).sum()
        return [torch.zeros_like(beta) for beta in outer.trained], state


@pytest.mark.trains
def test_memory_is_what_a_step_needs_beyond_what_the_search_holds(build: Build) -> None:
    kept = torch.ones(200 * 2**17, dtype=torch.float64)  # 200 MiB that the process has all the time
    memory = {row["approximation"]: row["memory_mib"] for row in measure_cost(build(), 1, {"hoarding": Hoarding()})}
    assert kept.all()
    if not STATUS.exists():
        assert all(math.isnan(of_one) for of_one in memory.values())
        pytest.skip("the system cannot reset a process's peak")
    assert memory["lora"] < 100
    assert 290 < memory["hoarding"] < 400
