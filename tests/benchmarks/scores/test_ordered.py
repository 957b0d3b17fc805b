"""Ranks as outer variables: the budget, the gradient, the optimiser, and a search on branches with a known answer."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.scores.ordered import TAU, OneScaleAdam, OrderedRanks, learned_ranks, ordered, ranks_after_search
from configs.schema import RunConfig
from engine.run.context import Context
from engine.search.engine import build_engine
from problems.machine.compute import Compute
from tests.helpers import branches

SIZES, K, BUDGET = [2, 5, 3], 4, 0.5
COSTS = torch.tensor(SIZES, dtype=torch.float64)


def ranks_with(beta: torch.Tensor) -> OrderedRanks:
    made = OrderedRanks(SIZES, K, BUDGET).double()
    with torch.no_grad():
        made.beta.copy_(beta)
    return made


@pytest.mark.parametrize("beta", [[0.0, 0.0, 0.0], [1.0, -2.0, 0.3], [30.0, -30.0, 0.0]])
def test_the_ranks_use_up_the_budget_whatever_beta_is(beta: list[float]) -> None:
    ranks = ranks_with(torch.tensor(beta)).ranks().detach()
    assert float(ranks @ COSTS) == pytest.approx(BUDGET * sum(SIZES), rel=1e-9)
    assert bool((ranks >= 0).all())
    assert bool((ranks <= K).all())


def test_equal_beta_give_equal_ranks_and_a_larger_beta_a_larger_rank() -> None:
    assert ranks_with(torch.zeros(3)).ranks().tolist() == pytest.approx([BUDGET] * 3)
    ranks = ranks_with(torch.tensor([0.2, 0.0, -0.1])).ranks()
    assert ranks[0] > ranks[1] > ranks[2]


def test_the_gradient_passes_through_the_shared_shift() -> None:
    made, weights = ranks_with(torch.tensor([0.1, -0.2, 0.05])), torch.tensor([1.0, -2.0, 0.7], dtype=torch.float64)
    (found,) = torch.autograd.grad(made.ranks() @ weights, [made.beta])
    slopes = made.ranks().detach() * (1 - made.ranks().detach() / K) / TAU
    # The closed form of the notes: s_l (D_l - c_l lambda), lambda = sum s D / sum s c.
    price = (slopes * weights).sum() / (slopes * COSTS).sum()
    assert torch.allclose(found, slopes * (weights - COSTS * price), rtol=1e-9)
    step = torch.tensor([1e-6, 0.0, 0.0], dtype=torch.float64)
    beta = made.beta.detach()
    difference = (ranks_with(beta + step).ranks() - ranks_with(beta - step).ranks()) @ weights / 2e-6
    assert float(found[0]) == pytest.approx(float(difference), rel=1e-6)


def test_gates_open_one_after_the_other_and_become_sharp() -> None:
    made = ranks_with(torch.zeros(3))
    soft = made().detach()
    assert soft.shape == (3, K)
    assert bool((soft.diff(dim=1) < 0).all())
    assert float(soft[0, 0]) == pytest.approx(0.5)  # rank 1/2 lies at the middle of the first component
    made.sharpness = 0.01
    assert made()[0, 1] < 1e-6


def test_one_scale_adam_keeps_the_proportions_of_the_gradient() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = OneScaleAdam([weight], lr=0.1)
    weight.grad = torch.tensor([3.0, 1.0])
    optimizer.step()
    moved = weight.detach()
    assert float(moved[0] / moved[1]) == pytest.approx(3.0)
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.1)


def test_one_scale_adam_is_adam_for_a_single_number() -> None:
    one, other = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    mine, theirs = OneScaleAdam([one], lr=0.1), torch.optim.Adam([other], lr=0.1)
    for gradient in (2.0, -1.0, 0.5):
        one.grad = other.grad = torch.tensor([gradient])
        mine.step()
        theirs.step()
    assert torch.allclose(one, other)


@pytest.mark.trains
def test_branches_that_need_a_change_get_the_ranks(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config(
        "--search.steps", "150", "--search.batch_size", "32", "--search.learning_rate", "2e-2",
        "--search.selection_learning_rate", "2e-2", "--hypergradient.type", "first_order",
        "--search.gradient_accumulation", "1",
    )  # fmt: skip
    needed, count = (1, 4), 6
    model, inputs, labels = branches.planted(count, needed, rows=800, seed=0)
    rows = branches.rows_of(inputs, labels)

    def loss(module: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(x=batch["x"]).logits, batch["labels"])

    engine = build_engine(
        config, model, rows.select(range(400)), rows.select(range(400, 800)), branches.collate,
        Compute(torch.device("cpu"), bf16=False), loss=loss, outer=ordered(0.5),
    )  # fmt: skip
    ranks = ranks_after_search(engine, config)
    assert float(ranks.mean()) == pytest.approx(0.5, rel=1e-4)
    others = [float(ranks[b]) for b in range(count) if b not in needed]
    assert min(float(ranks[b]) for b in needed) > 3 * max(others), ranks


@pytest.mark.trains
def test_the_ranks_do_not_depend_on_what_was_computed_before(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--hypergradient.type", "first_order"))
    found = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        found.append(learned_ranks(run, 0.5))
    assert torch.equal(*found)
