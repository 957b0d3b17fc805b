"""What D_val says about models of which it is known where LoRA is needed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from autolora.configs.schema import LoraSettings, RunConfig
from autolora.configs.schema_answer import AnswerConfig
from autolora.engine.measure.evidence import Evidence
from autolora.engine.measure.gated import Cuts, Heads, Searched
from autolora.engine.measure.judged import crossed
from autolora.engine.measure.likelihood import TEMPERATURES
from autolora.engine.measure.measure import measure, ranks_of_curve, within
from autolora.engine.measure.passes import Sample
from autolora.engine.measure.shares import Division
from tests.helpers.branches import HIDDEN, WIDTH, planted, sample_of, searched, train

CONFIG = RunConfig(lora=LoraSettings(k=4))


def answer_of(needed: tuple[int, ...], seed: int, branches: int = 6, rows: int = 600) -> tuple[Evidence, torch.Tensor]:
    """The evidence and the shares of the layers [branches] of a planted task; half of the rows train."""
    model, inputs, labels = planted(branches, needed, 2 * rows, seed)
    train(model, inputs[:rows], labels[:rows])
    found, sample = searched(model), sample_of(inputs[rows:], labels[rows:])
    evidence, shares = measure(found, sample, None, CONFIG)
    return evidence, shares.by_layer().mean().flatten()


@pytest.mark.trains
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_two_branches_that_the_labels_come_from_have_the_shares(seed: int) -> None:
    evidence, shares = answer_of(needed=(1, 4), seed=seed)
    assert evidence.learned
    assert float(shares[[1, 4]].sum() / shares.sum()) > 0.8
    assert evidence.sufficient_rank(0.05) in (1, 2)  # the change is of rank 1; noise may ask for one more
    assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.05)
    # Two of six branches at rank 1 are an average rank of a third: a budget of 0.5 keeps nearly all.
    half = next(point for point in evidence.budget_curve if point.at == 0.5)
    assert half.kept > 0.9


@pytest.mark.trains
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_of_noise_give_nothing(seed: int) -> None:
    evidence, _ = answer_of(needed=(), seed=seed)
    assert not evidence.learned
    assert evidence.sufficient_rank(0.05) is None
    assert evidence.sufficient_budget(0.05) is None


@pytest.mark.trains
def test_rows_of_one_source_are_one_draw_so_that_repeating_every_row_changes_no_error() -> None:
    model, inputs, labels = planted(4, (1,), 400, seed=0)
    train(model, inputs[:200], labels[:200])
    found, times = searched(model), 3
    once = sample_of(inputs[200:], labels[200:])
    many = sample_of(*(values[200:].repeat_interleave(times, dim=0) for values in (inputs, labels)))
    named = many.rows.add_column("source", [f"{row // times}" for row in range(200 * times)])
    (alone, alone_shares), (repeated, repeated_shares), (unnamed, _) = (
        measure(found, sample, None, CONFIG) for sample in (once, replace(many, rows=named), many)
    )
    assert (repeated.rows, repeated.sources, unnamed.sources) == (600, 200, 600)
    assert repeated.gain == pytest.approx(alone.gain, rel=1e-4)
    assert repeated.gain_standard_error == pytest.approx(alone.gain_standard_error, rel=1e-4)
    assert unnamed.gain_standard_error == pytest.approx(alone.gain_standard_error / times**0.5, rel=0.02)
    for one, other in zip(alone.rank_curve, repeated.rank_curve, strict=True):
        assert other.standard_error == pytest.approx(one.standard_error, rel=1e-3, abs=1e-9)
        assert other.kept_standard_error == pytest.approx(one.kept_standard_error, rel=1e-3, abs=1e-9)
    assert torch.allclose(repeated_shares.standard_error(), alone_shares.standard_error(), rtol=1e-3)


@pytest.mark.trains
def test_the_whole_model_is_the_last_point_and_keeps_all() -> None:
    evidence, _ = answer_of(needed=(0,), seed=3)
    *_, whole = evidence.rank_curve
    assert (whole.at, whole.kept, whole.kept_standard_error) == (4, 1.0, 0.0)
    assert evidence.reference.standard_error == 0.0
    assert whole.loss == evidence.loss
    assert [point.at for point in evidence.budget_curve] == [0.25, 0.5, 1.0, 2.0]
    assert all(0.0 <= point.kept_standard_error < 1.0 for point in evidence.rank_curve)


def test_a_budget_is_measured_with_the_head_that_suits_it_best(random_components: tuple[Searched, Sample]) -> None:
    """The searched head is useless, and the head alone is as good as before: halfway in between is better."""
    found, sample = random_components
    weight: Any = found.model.get_submodule("base_model.model.out.0").weight.requires_grad_(True)
    good = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(50 * torch.randn_like(weight))
    heads = Heads(((weight, 2 * good - weight.detach(), weight.detach().clone()),))
    head = sample.statistics(found.model)[0][0]
    without, _ = measure(found, sample, head, CONFIG)
    evidence, _ = measure(replace(found, heads=heads), sample, head, CONFIG)
    of_ranks = [[(point.at, point.loss) for point in one.rank_curve] for one in (evidence, without)]
    assert of_ranks[0] == of_ranks[1], "ranks are measured with the searched head"
    assert all(
        one.loss < other.loss - 0.1 for one, other in zip(evidence.budget_curve, without.budget_curve, strict=True)
    )


def test_every_share_above_0_counts_with_and_without_a_budget() -> None:
    """Shares above noise went first: on SST-2 such cuts kept 74 instead of 90 %. Without a budget they were all that
    was taken, and could be fewer than a budget that was not enough."""
    share = torch.tensor([[0.3, 0.1], [0.2, -0.1]])
    arguments = ("shares", share, torch.zeros(2, 2), [10, 10])
    assert within(*arguments, 0.5).tolist() == [[True, False], [False, False]]
    assert within(*arguments, 2.0).tolist() == [[True, True], [True, False]]
    assert within(*arguments, None).tolist() == [[True, True], [True, False]]


def test_the_ranks_of_the_curve_double_up_to_k() -> None:
    assert [ranks_of_curve(k) for k in (1, 2, 3, 8, 12)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]
    assert ranks_of_curve(8, [2, 1]) == [1, 2, 8]


@pytest.fixture
def random_components() -> tuple[Searched, Sample]:
    """A model of two branches whose components are random, and 40 rows."""
    model, inputs, labels = planted(2, (0,), 40, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return searched(model), sample_of(inputs, labels)


def with_shares(sums: torch.Tensor, first: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has these shares [rows, layers, k]."""
    shares = Division(sums, torch.ones(len(sums), dtype=torch.float64), first, head=0.0)
    monkeypatch.setattr("autolora.engine.measure.measure.complete", lambda *_, **__: (shares, 3))


def test_a_half_of_the_rows_judges_the_components_that_the_other_half_chose(
    random_components: tuple[Searched, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, sample = random_components
    first = torch.from_numpy(sample.first_half)
    sums, chosen = torch.zeros(40, 2, 4, dtype=torch.float64), torch.zeros(2, 2, 4, dtype=torch.bool)
    for number, half in enumerate((first, ~first)):  # each half sees a share in a layer of its own, and nothing else
        sums[half, number, 0], chosen[number, number, 0] = 1.0, True
    with_shares(sums, first, monkeypatch)
    evidence, _ = measure(found, sample, None, replace(CONFIG, answer=AnswerConfig(curve_budgets=[1.0])))
    cuts = Cuts(found, sample)
    expected = crossed(sample.likelihood, cuts.statistics(list(chosen)), cuts.weights, sample.first_half)
    (point,) = evidence.budget_curve
    assert point.loss == pytest.approx(expected.loss, rel=1e-9)
    assert point.parameters == 2 * (HIDDEN + WIDTH), "those of both components, as all rows together choose"


def test_by_size_the_budgets_hold_the_largest_components_whatever_their_shares(
    random_components: tuple[Searched, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, sample = random_components
    with_shares(torch.zeros(40, 2, 4, dtype=torch.float64), torch.from_numpy(sample.first_half), monkeypatch)
    by_size = replace(CONFIG, answer=AnswerConfig(rule="size", budget="auto", curve_budgets=[0.5, 4.0]))
    evidence, _ = measure(found, sample, None, by_size)
    assert evidence.budget_rule == "size"
    assert [point.parameters for point in evidence.budget_curve] == [HIDDEN + WIDTH, 8 * (HIDDEN + WIDTH)]
    assert evidence.budget_curve[-1].loss == evidence.loss


def test_the_gain_is_that_over_the_head_where_there_is_one(random_components: tuple[Searched, Sample]) -> None:
    found, sample = random_components
    head = sample.statistics(found.model, [found.cut(found.all() & (torch.arange(4) < 1))])[0][0]
    evidence, _ = measure(found, sample, head, CONFIG)
    at_1, *_ = evidence.rank_curve
    assert evidence.without == "head alone"
    assert evidence.gain == pytest.approx(at_1.loss - evidence.loss)
    assert at_1.kept == pytest.approx(0, abs=1e-9), "a cut that does as well as the head keeps nothing"


def test_the_shares_are_measured_at_the_larger_temperature_of_both_ends_at_which_losses_are_exact(
    random_components: tuple[Searched, Sample],
) -> None:
    found, sample = random_components
    evidence, _ = measure(found, sample, None, CONFIG)
    ends, weights = sample.statistics(found.model, [found.cut(found.all() & False), found.cut(found.all())])
    fitted = max(sample.likelihood.fitted(at, weights) for at in ends)
    assert evidence.temperature in TEMPERATURES
    assert evidence.temperature == pytest.approx(fitted, rel=0.1)
    losses = [sample.likelihood.losses(at, evidence.temperature, weights).mean() for at in ends]
    assert evidence.fall == pytest.approx(float(losses[0] - losses[1]))


def test_with_lora_the_temperature_of_the_shares_is_that_of_the_whole_model() -> None:
    """Of an over-confident model each rank needs a temperature of its own, and all need more than the base model."""
    model, inputs, labels = planted(2, (0,), 40, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=4)
    found, sample = searched(model), sample_of(inputs, labels)
    evidence, _ = measure(found, sample, None, CONFIG)
    masks = [found.all() & (torch.arange(4) < rank) for rank in (0, 1, 4)]
    statistics, weights = sample.statistics(found.model, [found.cut(mask) for mask in masks])
    off, first, whole = (sample.likelihood.exact(sample.likelihood.fitted(at, weights)) for at in statistics)
    assert off < whole < first
    assert evidence.temperature == whole
