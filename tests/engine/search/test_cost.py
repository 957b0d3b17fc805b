"""The cost of a step of each hypergradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.schema import RunConfig
from autolora.engine.probe import measure_cost
from autolora.engine.run.context import Context
from autolora.engine.run.resources import STATUS
from autolora.engine.search.search import SearchEngine, build_search
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


@pytest.mark.trains
@pytest.mark.parametrize(
    ("arguments", "plain"),
    [((), 1), (("--search.unroll_steps", "2"), 2), (("--search.gradient_accumulation", "2"), 2)],
)
def test_the_cost_of_each_is_measured(build: Build, arguments: tuple[str, ...], plain: int) -> None:
    engine = build(*arguments)
    found = measure_cost(engine, 1, {(name, 1.0): made(name) for name in METHODS})
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


class Hoarding(Hypergradient):
    """Has no implicit term, but needs 300 MiB more than `first_order`."""

    def term(self, state: State, v: Any, inner: Any, outer: Any) -> tuple[list[Tensor], State]:
        torch.ones(300 * 2**17, dtype=torch.float64).sum()
        return [torch.zeros_like(beta) for beta in outer.trained], state


@pytest.mark.trains
def test_memory_is_what_a_step_needs_beyond_what_the_search_holds(build: Build) -> None:
    kept = torch.ones(200 * 2**17, dtype=torch.float64)  # 200 MiB that the process has all the time
    memory = {
        row["approximation"]: row["memory_mib"] for row in measure_cost(build(), 1, {("hoarding", 1.0): Hoarding()})
    }
    assert kept.all()
    if not STATUS.exists():
        assert set(memory.values()) == {None}
        pytest.skip("the system cannot reset a process's peak")
    assert memory["lora"] < 100
    assert 290 < memory["hoarding"] < 400
