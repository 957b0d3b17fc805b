"""Passes of rows through a model: statistics, moments, shares."""

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from autolora.engine.measure import shares as shares_module
from autolora.engine.measure.likelihood import Categorical
from autolora.engine.measure.lora import Cut, Lora, call_with
from autolora.engine.measure.measure import Plan, measure
from autolora.engine.measure.moments import Moments, measure_moments
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.shares import NODES, Shares, integrate
from autolora.engine.world import Silence
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.recompute import recompute_blocks
from tests.helpers.branches import lora_of, lora_with_head, passes_of, planted, train
from tests.helpers.untouched import left_as_it_was


def test_the_rows_of_a_fold_are_measured_with_its_own_cut() -> None:
    model, inputs, labels = planted(branches=2, needed=(0,), rows=30, seed=0)
    train(model, inputs, labels, steps=10)
    found = lora_of(model)
    told = list[int]()
    modes = set[bool]()
    passes = passes_of(inputs, labels, batch=7, advance=told.append)
    folds = np.arange(30) % 3
    masks = [found.even(rank) for rank in (0, 1, 4)]
    model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    model.train()
    statistics, weights = passes.of_cuts(
        found, folds, [[Cut(mask) for mask in masks], [Cut(masks[1])] * 3]
    )
    assert sum(told) == 2 * 30
    assert weights.tolist() == [1.0] * 30
    model.eval()
    for fold, mask in enumerate(masks):
        for one, own in zip(statistics, (mask, masks[1]), strict=True):
            with torch.no_grad():
                chosen = found.overrides(Cut(own))
                logits = call_with(model, chosen, model, x=inputs[folds == fold]).logits
            expected, _ = passes.likelihood.statistics(logits, labels[folds == fold])
            torch.testing.assert_close(one[folds == fold], expected.double())
    model.train()
    torch.testing.assert_close(passes.statistics(model)[0][folds == 2], statistics[0][folds == 2])
    assert modes == {False}, "dropout is off"


def test_a_batch_has_rows_of_similar_length_the_longest_first() -> None:
    rows = passes_of(torch.zeros(5, 1, 1), torch.zeros(5, dtype=torch.long)).rows
    object.__setattr__(rows, "lengths", np.array([3, 9, 1, 9, 4]))
    assert rows.by_length(np.array([0, 1, 2, 3, 4]), 2) == [[1, 3], [4, 0], [2]]


def causal(kind: str) -> Any:
    """A tiny random language model with LoRA, whose head knows on how many tokens it was asked."""
    torch.manual_seed(0)
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(
            GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32)
        )
    else:
        sizes = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
    model.seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: model.seen.append(inputs[0].shape[1]))
    return get_peft_model(
        model, LoraConfig(target_modules=["c_attn" if kind == "gpt2" else "q_proj"])
    ).eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_language_model_gives_no_logits_of_prompts(kind: str) -> None:
    """Prompts of unequal lengths, a row without labels, and a label on the last token."""
    model = causal(kind)
    inputs = {"input_ids": torch.randint(50, (3, 12))}
    labels = torch.full((3, 12), -100)
    labels[0, 5:9] = inputs["input_ids"][0, 5:9]
    labels[1, 7:12] = inputs["input_ids"][1, 7:12]
    likelihood = Categorical(shifted=True)
    passes = passes_of(
        torch.zeros(3, 1, 1), torch.zeros(3, dtype=torch.long), likelihood=likelihood
    )
    whole = model(**inputs).logits.detach()
    logits, told = passes.labelled_logits(model, inputs, labels)
    assert model.get_base_model().seen == [12, 8], (
        "tokens 4 to 10 tell a label, and one more goes along"
    )
    expected = likelihood.statistics(whole, labels)
    torch.testing.assert_close(likelihood.statistics(logits.detach(), told), expected)
    torch.testing.assert_close(
        likelihood.loss(logits, told, 2.0), likelihood.loss(whole, labels, 2.0)
    )
    assert likelihood.weights(logits, told).tolist() == [4, 5, 0]


ROWS = 11
TOKENS = 4
WIDTH = 5
CLASSES = 3
SCALES = {"first": 2.0, "second": 0.5}


class Net(nn.Module):
    """Two layers with something curved between them, for each token; a row has the mean of its
    first tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        tokens = self.second(torch.tanh(self.first(x)))
        return SimpleNamespace(
            logits=(tokens * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        )


class Told(Categorical):
    """Instead of a drawn slope each label has one that the test knows, 1, 2 and 3 for the three
    classes."""

    def drawn_slope(
        self, logits: Tensor, labels: Tensor, temperature: float, generator: torch.Generator
    ) -> Tensor:
        return (logits * torch.tensor([1.0, 2.0, 3.0])).sum()


def two_layers() -> tuple[Lora, Tensor, Tensor]:
    """The net with LoRA of ranks 3 and 2, inputs [rows, tokens, width] and the mask of tokens that
    count."""
    torch.manual_seed(0)
    net: Any = Net()
    ranks = {"first": 3, "second": 2}
    alphas = {"first": 6.0, "second": 1.0}
    config = LoraConfig(target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=alphas)
    model: Any = get_peft_model(net, config)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    mask = (torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (ROWS, 1))).double()
    return Lora(model), torch.randn(ROWS, TOKENS, WIDTH), mask


def passes_over(rows: int, collate: Any, likelihood: Categorical) -> Passes:
    """Passes over rows that `collate` makes of their numbers, x[0]."""
    passes = passes_of(
        torch.arange(float(rows)).unsqueeze(1), torch.zeros(rows), likelihood=likelihood
    )
    return replace(passes, rows=replace(passes.rows, collate=collate))


def by_hand(lora: Lora, inputs: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """h h' and u u' of both layers, summed over the tokens that count, by the chain rule."""
    base: Any = lora.model.get_base_model()
    (a1, b1), (a2, b2) = lora.factors()
    w1, w2 = (
        layer.base_layer.weight + SCALES[name] * b @ a
        for name, layer, a, b in (("first", base.first, a1, b1), ("second", base.second, a2, b2))
    )
    found = [(torch.zeros(r, r), torch.zeros(r, r)) for r in (3, 2)]
    for row in range(ROWS):
        for x in inputs[row, : int(mask[row].sum())]:
            inner = torch.tanh(w1 @ x + base.first.base_layer.bias)
            slope = torch.tensor([1.0, 2.0, 3.0]) / mask[row].sum()
            u2 = SCALES["second"] * b2.T @ slope
            u1 = SCALES["first"] * b1.T @ ((1 - inner.square()) * (w2.T @ slope))
            for (hh, uu), h, u in zip(found, (a1 @ x, a2 @ inner), (u1, u2), strict=True):
                hh += torch.outer(h, h)
                uu += torch.outer(u, u)
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [3, 64])
def test_the_moments_are_those_by_hand_and_padding_does_not_count(batch: int) -> None:
    lora, inputs, mask = two_layers()

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        numbers = [int(row["x"][0]) for row in rows]
        return {
            "x": inputs[numbers],
            "mask": mask[numbers],
            "labels": torch.zeros(len(rows), dtype=torch.long),
        }

    passes = passes_over(ROWS, collate, Told())
    folds = np.arange(ROWS) % 4
    trained = [p.requires_grad for p in lora.model.parameters()]
    with torch.no_grad():
        expected = by_hand(lora, inputs, mask)
    found = measure_moments(lora, passes, folds, 1.0, batch)
    assert found.inputs.shape == found.slopes.shape == (4, 2, 3, 3)
    for layer, (hh, uu) in enumerate(expected):
        r = len(hh)
        torch.testing.assert_close(found.inputs[:, layer, :r, :r].sum(dim=0), hh)
        torch.testing.assert_close(found.slopes[:, layer, :r, :r].sum(dim=0), uu)
    only = measure_moments(lora, passes, np.where(folds == 2, 0, 1), 1.0, batch)
    torch.testing.assert_close(only.inputs[0], found.inputs[2])  # the sums over its own rows
    torch.testing.assert_close(only.slopes[0], found.slopes[2])
    assert [p.requires_grad for p in lora.model.parameters()] == trained
    assert all(p.grad is None for p in lora.model.parameters())


@pytest.mark.usefixtures("float64")
@torch.no_grad()
def test_in_the_basis_of_a_fold_both_moments_of_all_other_folds_are_its_sizes() -> None:
    lora, *_ = two_layers()
    parts = torch.randn(2, 4, 2, 3, 6)
    inputs, slopes = parts @ parts.mT
    of_all = Moments(inputs, slopes).bases(lora)
    of_others = Moments(inputs, slopes).bases(lora, without=1)
    for used, bases in (([0, 1, 2, 3], of_all), ([0, 2, 3], of_others)):
        for layer, ((a, b), r) in enumerate(zip(lora.factors(), lora.ranks, strict=True)):
            hh, uu = (of[used, layer, :r, :r].sum(dim=0) for of in (inputs, slopes))
            basis = bases[layer]
            # T and its inverse
            there = basis.a @ torch.linalg.pinv(a)
            back = torch.linalg.pinv(b) @ basis.b
            torch.testing.assert_close(there @ hh @ there.T, basis.size.diag())
            torch.testing.assert_close(back.T @ uu @ back, basis.size.diag())
            torch.testing.assert_close(basis.b @ basis.a, (b @ a).detach())


def test_blocks_that_are_computed_again_have_the_same_moments_and_shares() -> None:
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    base: Any = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        nn.init.normal_(weight, std=0.3 if "lora_" in name else 0.1)
    lora = Lora(model)
    tokens = torch.randint(20, (9, 6))

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        own = tokens[[int(row["x"][0]) for row in rows]]
        return {"input_ids": own, "labels": torch.where(torch.arange(6) > 2, own, -100)}

    passes = passes_over(9, collate, Categorical(shifted=True))
    folds = np.arange(9) % 3

    def measured() -> list[Tensor]:
        shares = integrate(lora, passes, folds, 1.5, 4, 2, 3)
        return [*vars(measure_moments(lora, passes, folds, 1.5, 4)).values(), shares.sums]

    before = measured()
    recompute_blocks(model)
    for one, other in zip(before, measured(), strict=True):
        assert one.abs().max() > 0
        assert torch.equal(one, other)


def fall(found: Lora, passes: Passes, temperature: float, *ends: Cut) -> float:
    """The mean loss under the first cut minus that under the second."""
    statistics, weights = passes.of_cuts(found, passes.rows.folds(1), [[end] for end in ends])
    first, last = (passes.likelihood.losses(at, temperature, weights).mean() for at in statistics)
    return float(first - last)


def shares_of(
    found: Lora, passes: Passes, temperature: float = 1.0, batch: int = 16, nodes: int = NODES
) -> Shares:
    return integrate(found, passes, passes.rows.folds(5), temperature, batch, nodes, 20)


@pytest.fixture(scope="module")
def trained() -> tuple[Lora, Passes]:
    """Three branches of which LoRA has learned something, and 200 rows; for reading only."""
    model, inputs, labels = planted(branches=3, needed=(1,), rows=200, seed=2)
    train(model, inputs, labels, steps=40)
    return lora_of(model), passes_of(inputs, labels)


def test_shares_add_up_to_the_loss_of_switching_lora_off(trained: tuple[Lora, Passes]) -> None:
    found, passes = trained
    measured = fall(found, passes, 1.7, Cut(found.even(0)), Cut(found.even(4)))
    shares = shares_of(found, passes, 1.7)
    assert measured > 0.05
    assert float(shares.mean().sum()) == pytest.approx(measured, rel=1e-3)
    assert shares.head == 0, "no head moves"


def test_where_a_head_moves_all_shares_add_up_to_the_gain_over_the_head_alone() -> None:
    found, passes = lora_with_head(200)
    measured = fall(found, passes, 2.0, Cut(found.even(0), ungated=0.0), Cut(found.even(4)))
    shares = shares_of(found, passes, 2.0, nodes=8)
    assert abs(shares.head) > 0.05
    assert shares.total() == pytest.approx(measured, rel=1e-3)


def test_a_share_is_the_slope_of_the_loss_with_the_head_in_between() -> None:
    """One node: the derivative in the middle of the path, against the difference of two losses
    there."""
    found, passes = lora_with_head(100)
    shares = shares_of(found, passes, nodes=1)
    ends = []
    for step in (-0.02, 0.02):
        gates = torch.full((3, 4), 0.5)
        gates[1, 0] += step
        ends.append(Cut(gates, ungated=0.5))
    difference = fall(found, passes, 1.0, *ends)
    assert abs(difference) > 1e-3
    assert float(shares.mean()[1, 0]) == pytest.approx(difference / 0.04, rel=1e-2)


def test_the_batches_change_nothing_but_the_draws(trained: tuple[Lora, Passes]) -> None:
    found, passes = trained
    one, many, rows = (shares_of(found, passes, batch=batch) for batch in (200, 7, 1))
    assert (len(one.weights), len(rows.weights)) == (20, 200)
    for other in (many, rows):
        torch.testing.assert_close(one.mean(), other.mean(), rtol=1e-4, atol=1e-7)
        errors = (shares.by_layer().standard_error() for shares in (one, other))
        torch.testing.assert_close(*errors, rtol=0.5, atol=0)
    assert 0 < float(many.by_layer().standard_error()[1, 0]) < float(many.by_layer().mean()[1, 0])
    of_layers = one.mean().sum(dim=1, keepdim=True)
    torch.testing.assert_close(one.by_layer().mean(), of_layers)
    four = one.without(3)
    fifth = one.folds == 3
    assert four.sums.shape[0] == 16
    rest = one.mean() * 200 - one.sums[torch.from_numpy(fifth)].sum(dim=0)
    torch.testing.assert_close(four.mean() * 160, rest)


def test_a_group_that_is_larger_than_a_batch_is_one_draw(trained: tuple[Lora, Passes]) -> None:
    found, passes = trained
    grouped = replace(passes, rows=replace(passes.rows, groups=np.arange(200) // 8))
    shares = shares_of(found, grouped, batch=3)
    by_row = shares_of(found, passes, batch=1)
    assert shares.weights.tolist() == [8.0] * 25
    torch.testing.assert_close(shares.mean(), by_row.mean(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        shares.sums, by_row.sums.view(25, 8, 3, 4).sum(dim=1), rtol=1e-4, atol=1e-5
    )


class Half(Processes):
    """One of two processes: `heard` is what the other one has sent; without it, it hears what it
    says itself."""

    def __init__(self, rank: int, heard: Iterable[Tensor] = ()) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "heard", iter(heard))
        object.__setattr__(self, "sent", [])

    def summed(self, tensors: Any) -> list[Tensor]:
        self.sent.extend(tensor.clone() for tensor in tensors)
        return [tensor + next(self.heard, tensor) for tensor in tensors]


def test_two_processes_together_measure_what_one_does() -> None:
    found, passes = lora_with_head(80)

    def measured(processes: Processes) -> list[Tensor]:
        own = replace(passes, batch=5, processes=processes)
        folds = passes.rows.folds(5)
        shares = shares_of(found, own, 1.5)
        moments = measure_moments(found, own, folds, 1.5, 4)
        statistics, weights = own.of_cuts(found, folds, [[Cut(found.even(1))] * 5])
        return [
            shares.sums,
            shares.weights,
            torch.tensor(shares.head),
            *vars(moments).values(),
            *statistics,
            weights,
        ]

    first = Half(0)
    measured(first)
    for one, other in zip(measured(Half(1, first.sent)), measured(ALONE), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_no_weight_is_changed_or_left_with_a_gradient_and_dropout_is_off() -> None:
    found, passes = lora_with_head(80)
    model = found.model
    modes = set[bool]()
    model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    with left_as_it_was(model.train()):
        shares_of(found, passes)
        measure_moments(found, passes, passes.rows.folds(5), 1.0, 8)
        passes.of_cuts(found, passes.rows.folds(2), [[found.whole, found.nothing]])
    assert modes == {False}


def shares_from(sums: np.ndarray) -> Shares:
    """Shares from draws [draws, layers, k] of one label each."""
    return Shares(torch.from_numpy(sums), torch.ones(len(sums)).double(), np.arange(len(sums)) % 5)


def test_the_error_of_a_part_is_that_of_many_draws() -> None:
    """Rows raise both shares together, so that the error of a share in units of the sum was three
    times too large."""
    generator = np.random.default_rng(0)
    errors = []
    parts = []
    for _ in range(300):
        # how much LoRA does for a row, whichever layer
        easy = generator.gamma(1.0, 1.0, (80, 1, 1))
        sums = easy * np.array([3.0, 1.0]).reshape(1, 2, 1) + generator.normal(0, 0.3, (80, 2, 1))
        shares = shares_from(sums)
        errors.append(shares.part_error().flatten().tolist())
        parts.append((sums.sum(axis=0) / sums.sum()).flatten())
    assert np.mean(errors, axis=0) == pytest.approx(np.std(parts, axis=0), rel=0.1)
    whole = float(shares.mean().sum())
    assert float(shares.standard_error()[0]) / whole > 3 * errors[-1][0]
    assert float(shares_from(sums[:, :1]).part_error()) < 1e-12, (
        "the part of a single layer is sure"
    )


def test_the_record_has_the_shares_of_components_and_layers_and_their_errors() -> None:
    """The error of a layer is not the sum of those of its components, which here move against each
    other."""
    noise = np.random.default_rng(0).normal(0, 1, 40)
    columns = shares_from(np.stack([3 + noise, 1 - noise], axis=1).reshape(40, 1, 2)).columns()
    assert columns["share"].flatten().tolist() == pytest.approx(
        [3 + noise.mean(), 1 - noise.mean()]
    )
    assert columns["share_standard_error"].flatten().tolist() == pytest.approx(
        [noise.std(ddof=1) / 40**0.5] * 2
    )
    assert columns["layer_share"].tolist() == pytest.approx([4.0])
    assert columns["layer_share_standard_error"].tolist() == pytest.approx([0.0], abs=1e-12)
    assert columns["layer_part_standard_error"].tolist() == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize(("missing", "asked"), [(0.019, [NODES]), (0.021, [NODES, 2 * NODES])])
def test_the_nodes_are_doubled_once_where_the_sum_misses_the_measured_fall(
    trained: tuple[Lora, Passes], missing: float, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, passes = trained
    nodes = list[int]()
    extended = list[int]()
    exact = measure(found, passes, Plan()).evidence.fall

    class Watched(Silence):
        def grow(self, more: int) -> None:
            extended.append(more)

    def shares(*arguments: Any) -> Shares:
        nodes.append(arguments[-1])
        return shares_from(np.full((20, 3, 4), exact * (1 - missing) / 12))

    monkeypatch.setattr(shares_module, "integrate", shares)
    evidence = measure(found, passes, Plan(), progress=Watched).evidence
    assert nodes == asked
    assert evidence.nodes == asked[-1]
    assert evidence.fall == exact
    assert evidence.share_total == pytest.approx(exact * (1 - missing)), "the miss is recorded"
    assert extended == ([] if len(asked) == 1 else [2 * 2 * NODES * 200])
