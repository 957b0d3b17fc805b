"""What held-out rows say about models of which it is known where LoRA is needed."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autolora.engine.measure import shares as shares_module
from autolora.engine.measure.bases import uneven_ranks
from autolora.engine.measure.judged import cross_fitted
from autolora.engine.measure.lora import Cut, Lora, heads_off
from autolora.engine.measure.measure import Measured, Plan, measure
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.shares import Shares
from tests.helpers.branches import HIDDEN, WIDTH, lora_of, misled, passes_of, planted, train
from tests.helpers.evidence import evidence_of, point

BUDGETS = Plan(budgets=(0.5, 1.0), batch=32)


@pytest.mark.trains
def test_two_branches_of_six_that_need_rank_1_are_recognised_also_where_size_misleads() -> None:
    model, inputs, labels = misled(1200, seed=0)
    train(model, inputs[:600], labels[:600], steps=100)
    found = measure(lora_of(model), passes_of(inputs[600:], labels[600:]), BUDGETS)
    evidence = found.evidence
    shares = found.shares.by_layer().mean().flatten()
    assert evidence.learned
    assert float(shares[[1, 4]].sum() / shares.sum()) > 0.9
    assert float(shares[[1, 4]].min() / shares.sum()) > 0.1
    assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.02)
    balanced = evidence.rank_curve[0]
    plain = evidence.plain_curve[0]
    assert balanced.kept > 0.97
    assert evidence.sufficient_rank(0.05) == 1
    assert plain.kept < 0.8
    assert balanced.kept - plain.kept > 3 * (
        balanced.kept_standard_error + plain.kept_standard_error
    )
    # Two of six branches at rank 1 are an average rank of a third.
    (uneven,) = (one for one in evidence.uneven_curve if one.at == 1)
    assert uneven.kept > 0.97
    assert not evidence.uneven_is_better(1), "all of it is in rank 1"


@pytest.mark.trains
def test_a_small_budget_suffices_where_two_branches_of_six_need_rank_1() -> None:
    model, inputs, labels = planted(6, (1, 4), 1200, seed=0)
    train(model, inputs[:600], labels[:600])
    found = measure(lora_of(model), passes_of(inputs[600:], labels[600:]), BUDGETS).evidence
    assert next(point for point in found.budget_curve if point.at == 0.5).kept > 0.9


@pytest.mark.trains
def test_labels_of_noise_give_nothing() -> None:
    model, inputs, labels = planted(6, (), 1200, seed=0)
    train(model, inputs[:600], labels[:600], steps=100)
    evidence = measure(lora_of(model), passes_of(inputs[600:], labels[600:]), BUDGETS).evidence
    assert not evidence.learned
    assert evidence.sufficient_rank(0.05) is None
    assert evidence.sufficient_budget(0.05) is None
    assert evidence.uneven_curve == ()


@pytest.mark.trains
def test_an_uneven_cut_is_called_better_where_one_branch_needs_rank_2() -> None:
    model, inputs, labels = planted(4, (), 1200, seed=0)
    base: Any = model.get_base_model()
    with torch.no_grad():
        logits = 8 * base.out[2](inputs[:, 2] @ torch.randn(WIDTH, HIDDEN))
    torch.manual_seed(0)
    labels = torch.distributions.Categorical(logits=logits).sample()
    train(model, inputs[:600], labels[:600], steps=100)
    passes = passes_of(inputs[600:], labels[600:])
    found = measure(lora_of(model), passes, Plan(keep=(0.0,))).evidence
    (uneven,) = found.uneven_curve
    assert uneven.at == 1
    assert uneven.parameters == 4 * (HIDDEN + WIDTH)
    assert found.uneven_is_better(1)
    assert uneven.loss < found.rank_curve[0].loss - 2 * uneven.standard_error
    assert uneven.standard_error == pytest.approx(found.rank_curve[0].standard_error, rel=0.3), (
        "beside rank 1"
    )


@pytest.mark.parametrize(("error", "better"), [(0.009, True), (0.01, False)])
def test_an_uneven_cut_is_better_only_if_it_surely_is(error: float, better: bool) -> None:
    even = (point(1, 0.05), point(2, 0.03), point(8, 0.0, 0.0))
    evidence = evidence_of(rank_curve=even, uneven_curve=(point(2, 0.014, error),))
    # 0.016 nats better, and 1.64 standard errors are 0.01476 or 0.0164
    assert evidence.uneven_is_better(2) is better
    assert not evidence.uneven_is_better(1), "it has another size"


@pytest.mark.trains
def test_rows_of_one_group_are_one_draw_so_that_repeating_every_row_changes_no_error() -> None:
    model, inputs, labels = planted(4, (1,), 400, seed=0)
    train(model, inputs[:200], labels[:200], steps=60)
    found = lora_of(model)
    times = 3
    many = [values[200:].repeat_interleave(times, dim=0) for values in (inputs, labels)]
    names = [f"{row // times}" for row in range(200 * times)]
    once, repeated, unnamed = (
        measure(found, passes, Plan(batch=size, budgets=(1.0,)))
        for passes, size in (
            (passes_of(inputs[200:], labels[200:]), 8),
            (passes_of(*many, names), 24),
            (passes_of(*many), 24),
        )
    )
    one, other, single = (each.evidence for each in (once, repeated, unnamed))
    assert (other.rows, other.sources, single.sources) == (600, 200, 600)
    assert other.gain == pytest.approx(one.gain, rel=1e-4)
    assert other.gain_standard_error == pytest.approx(one.gain_standard_error, rel=1e-4)
    assert single.gain_standard_error == pytest.approx(
        one.gain_standard_error / times**0.5, rel=0.02
    )
    for a, b in zip(one.plain_curve, other.plain_curve, strict=True):
        assert b.standard_error == pytest.approx(a.standard_error, rel=1e-2, abs=1e-9)
        assert b.kept_standard_error == pytest.approx(a.kept_standard_error, rel=1e-2, abs=1e-9)
    torch.testing.assert_close(
        repeated.shares.standard_error(), once.shares.standard_error(), rtol=1e-3, atol=1e-7
    )


def test_errors_are_those_beside_the_best_rank_of_an_over_fitted_model() -> None:
    """Every branch has a component that the labels are drawn with, and a smaller one of noise."""
    model, inputs, _ = planted(2, (), 400, seed=0)
    base: Any = model.get_base_model()
    factors = [branch.lora_B["default"].weight for branch in base.branch]
    with torch.no_grad():
        noise = []
        for out, factor in zip(base.out, factors, strict=True):
            shown = out.weight - out.weight.mean(dim=0)  # a shift of all logits changes no loss
            _, sizes, directions = torch.linalg.svd(shown, full_matrices=False)
            factor[:, 0] = 4 * directions[0] / sizes[0]
            noise.append(1.5 * directions[1] / sizes[1])
        labels = torch.distributions.Categorical(logits=model(x=inputs).logits).sample()
        for factor, direction in zip(factors, noise, strict=True):
            factor[:, 1] = direction
    evidence = measure(lora_of(model), passes_of(inputs, labels), Plan(batch=32)).evidence
    assert evidence.overfitted
    at_1, *_, whole = evidence.rank_curve
    assert evidence.reference == at_1
    assert at_1.standard_error == 0
    assert whole.standard_error > 0


@pytest.fixture
def random_components() -> tuple[Lora, Passes]:
    """A model of two branches whose components are random, and 40 rows of which it knows
    something."""
    model, inputs, _ = planted(2, (), 40, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
        labels = torch.distributions.Categorical(logits=2 * model(x=inputs).logits).sample()
    return lora_of(model), passes_of(inputs, labels)


def test_the_whole_model_is_the_last_point_and_keeps_all(
    random_components: tuple[Lora, Passes],
) -> None:
    evidence = measure(*random_components, Plan(ranks=(3, 1), budgets=(0.25, 1.0))).evidence
    assert (
        [point.at for point in evidence.rank_curve]
        == [point.at for point in evidence.plain_curve]
        == [1, 3, 4]
    )
    *_, whole = evidence.rank_curve
    assert whole == evidence.plain_curve[-1]
    assert (whole.kept, whole.kept_standard_error) == (1.0, 0.0)
    assert whole.loss == evidence.loss
    assert [point.at for point in evidence.budget_curve] == [1.0], (
        "a quarter of two components is none"
    )
    assert evidence.without == "LoRA off"
    assert [Plan().curve(k) for k in (1, 3, 12)] == [[1], [1, 2, 3], [1, 2, 4, 8, 12]]


def test_the_gain_is_that_over_the_head_where_there_is_one(
    random_components: tuple[Lora, Passes],
) -> None:
    found, passes = random_components
    (head,), _ = passes.of_cuts(
        found, passes.rows.folds(1), [[Cut(found.even(1), found.plain_bases())]]
    )
    evidence = measure(found, passes, Plan(), alone=head).evidence
    at_1, *_ = evidence.plain_curve
    assert evidence.without == "head alone"
    assert evidence.gain == pytest.approx(at_1.loss - evidence.loss)
    assert at_1.kept == pytest.approx(0, abs=1e-9), (
        "a cut that does as well as the head keeps nothing"
    )


def test_a_budget_is_measured_with_the_head_that_suits_it_best(
    random_components: tuple[Lora, Passes],
) -> None:
    """The searched head is useless, and the head alone is as good as before: halfway in between is
    better."""
    found, passes = random_components
    weight: Any = found.model.get_submodule("base_model.model.out.0").weight.requires_grad_(True)
    good = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(50 * torch.randn_like(weight))
    alone = {"out.0.weight": 2 * good - weight.detach()}
    head = passes.statistics(found.model)[0]
    plan = Plan(budgets=(1.0, 2.0), rule="size")
    singular = torch.tensor([[4.0, 3.0, 2.0, 1.0]] * 2)
    without = measure(found, passes, plan, singular, head).evidence
    headed = Lora(found.model, off=heads_off(found.model, alone))
    with_heads = measure(headed, passes, plan, singular, head).evidence
    assert [p.loss for p in with_heads.rank_curve] == [p.loss for p in without.rank_curve], (
        "only budgets have heads"
    )
    for one, other in zip(with_heads.budget_curve, without.budget_curve, strict=True):
        assert one.loss < other.loss - 0.1


def test_by_size_the_budgets_hold_the_largest_components_whatever_their_shares(
    random_components: tuple[Lora, Passes],
) -> None:
    singular = torch.tensor([[9.0, 1.0, 0.5, 0.1], [8.0, 7.0, 6.0, 5.0]])
    plan = Plan(budgets=(0.5, 1.0, 4.0), rule="size")
    evidence = measure(*random_components, plan, singular).evidence
    assert evidence.budget_rule == "size"
    assert [point.parameters for point in evidence.budget_curve] == [
        n * (HIDDEN + WIDTH) for n in (1, 2, 8)
    ]
    assert evidence.budget_curve[-1].loss == evidence.loss


def cuts_of_folds(found: Lora, passes: Passes, plan: Plan) -> tuple[Measured, list[list[Cut]]]:
    """What `measure` finds, and the cuts that it gave each fold."""
    seen: list[list[Cut]] = []

    class Watched(Passes):
        def of_cuts(self, lora: Lora, folds: np.ndarray, cuts: Any) -> tuple[list[Tensor], Tensor]:
            seen.extend(list(of_folds) for of_folds in cuts)
            return super().of_cuts(lora, folds, cuts)

    return measure(found, Watched(**vars(passes)), plan), seen


def test_a_fold_judges_the_components_that_the_other_folds_chose(
    random_components: tuple[Lora, Passes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fold sees a share in a component of its own; a last component has one that is noise."""
    found, passes = random_components
    sums = torch.zeros(40, 8, dtype=torch.float64)
    folds = np.arange(40) // 8
    sums[torch.arange(40), torch.from_numpy(folds)] = 1.0
    sums[:, 7] = torch.tensor([2.1, -1.9]).repeat(20)
    shares = Shares(sums.view(40, 2, 4), torch.ones(40, dtype=torch.float64), folds)
    monkeypatch.setattr(shares_module, "integrate", lambda *_: shares)
    measured, cuts = cuts_of_folds(found, passes, Plan(budgets=(2.5,), keep=()))
    (at,) = measured.evidence.budget_curve
    of_folds = cuts[-1]
    assert [cut.gates.flatten()[:5].tolist() for cut in of_folds] == (
        ~torch.eye(5, dtype=torch.bool)
    ).tolist()
    assert not any(cut.gates.flatten()[5:].any() for cut in of_folds)
    (statistics,), weights = passes.of_cuts(found, folds, [of_folds])
    judged = cross_fitted(passes.likelihood, [statistics], weights, folds)
    assert at.loss == pytest.approx(judged.loss, rel=1e-9)
    assert at.parameters == 5 * (HIDDEN + WIDTH), "those that all rows together choose"


def test_a_fold_is_judged_in_the_basis_and_by_the_ranks_of_the_other_folds(
    random_components: tuple[Lora, Passes],
) -> None:
    found, passes = random_components
    measured, cuts = cuts_of_folds(found, passes, Plan(ranks=(1,), keep=(-9.0,)))
    whole, off, balanced, plain, uneven = cuts
    assert [cut.gates.sum().item() for cut in (whole[0], off[0], balanced[0], plain[0])] == [
        8,
        0,
        2,
        2,
    ]
    sizes = [HIDDEN + WIDTH] * 2
    for fold in range(5):
        expected = measured.moments.bases(found, fold)
        ranks = uneven_ranks([one.size for one in expected], sizes, 2 * (HIDDEN + WIDTH))
        assert uneven[fold].gates.sum(dim=1).tolist() == ranks
        for cut in (balanced[fold], uneven[fold]):
            assert cut.bases is not None
            assert all(torch.equal(a.a, b.a) for a, b in zip(cut.bases, expected, strict=True))
    assert not torch.equal(balanced[0].bases[0].a, balanced[1].bases[0].a)  # type: ignore[index]
    folds = passes.rows.folds(5)
    (at,) = measured.evidence.uneven_curve
    statistics, weights = passes.of_cuts(found, folds, [uneven, balanced])
    own, even = (cross_fitted(passes.likelihood, [one], weights, folds) for one in statistics)
    assert (at.loss, at.standard_error) == pytest.approx((own.loss, own.above(even)[1])), (
        "beside the even cut"
    )


def test_the_shares_have_the_larger_temperature_of_both_ends() -> None:
    """Of an over-confident model each rank needs a temperature of its own, and all need more than
    the base model."""
    model, inputs, labels = planted(2, (0,), 40, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=4)
    found = lora_of(model)
    passes = passes_of(inputs, labels)
    statistics, weights = passes.of_cuts(
        found, passes.rows.folds(1), [[Cut(found.even(rank))] for rank in (0, 1, 4)]
    )
    off, first, whole = (
        passes.likelihood.exact(passes.likelihood.fitted(at, weights)) for at in statistics
    )
    assert off < whole < first
    assert measure(found, passes, Plan()).evidence.temperature == whole
