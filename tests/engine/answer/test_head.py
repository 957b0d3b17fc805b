"""The head alone: trained without LoRA until D_val sees nothing more, on a base that stays as it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import set_seed

from autolora.configs.schema import RunConfig
from autolora.engine.answer import head
from autolora.engine.answer.head import train_head
from autolora.engine.answer.likelihood import likelihood_of
from autolora.engine.answer.sample import Sample
from autolora.engine.run.context import Context
from autolora.problems.data import EndlessLoader
from autolora.problems.halves import split_rows
from autolora.problems.models.whole import head_alone


def sample_of(run: Context) -> tuple[Sample, list[int]]:
    d_tr, d_val = split_rows(run.data.train, run.config)
    sample = Sample(run.data.train.select(d_val), run.data.collate, likelihood_of(run.task), run.compute, run.stop)
    return sample, d_tr.tolist()


def test_the_head_alone_is_trained_and_nothing_else(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHECK_EVERY", 4)
    run = run_of(tiny_config("--search.steps", "40", "--search.learning_rate", "3e-2"))
    sample, d_tr = sample_of(run)
    before = {name: value.clone() for name, value in run.base().model.state_dict().items()}
    measured, losses = head._loss, []

    def loss(model: Any, some: Sample) -> float:
        losses.append(measured(model, some))
        return losses[-1]

    monkeypatch.setattr(head, "_loss", loss)
    model, steps = train_head(run, run.data.train.select(d_tr), sample)
    # It ends PATIENCE checks after the one with the lowest loss, at the latest after search.steps.
    lowest = losses.index(min(losses))
    assert len(losses) == 1 + steps // 4
    assert steps == min(40, 4 * (lowest + head.PATIENCE))
    assert lowest > 0, "the head has learned something"
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert measured(model, sample.some(head.CHECK_ROWS)) == pytest.approx(min(losses)), "these weights are kept"


def test_the_training_ends_when_the_loss_on_d_val_stops_falling(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHECK_EVERY", 2)
    run = run_of(tiny_config("--search.steps", "100"))
    sample, d_tr = sample_of(run)
    losses = iter([1.0, 0.9, 0.95, 0.9, 0.91, 0.5])
    monkeypatch.setattr(head, "_loss", lambda model, sample: next(losses))
    _, steps = train_head(run, run.data.train.select(d_tr), sample)
    assert steps == 2 * (1 + head.PATIENCE)


def test_the_weights_of_the_lowest_loss_are_kept_and_a_lower_loss_renews_the_patience(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHECK_EVERY", 2)
    run = run_of(tiny_config("--search.steps", "100"))
    sample, d_tr = sample_of(run)
    losses, seen = iter([1.0, 1.1, 1.2, 0.5, 0.6, 0.6, 0.6]), []

    def loss(model: Any, sample: Sample) -> float:
        seen.append(model.classifier.weight.detach().clone())
        return next(losses)

    monkeypatch.setattr(head, "_loss", loss)
    model, steps = train_head(run, run.data.train.select(d_tr), sample)
    assert steps == 2 * (3 + head.PATIENCE)
    assert torch.equal(model.classifier.weight, seen[3])
    assert not torch.equal(seen[3], seen[-1])


def test_the_head_alone_learns_on_d_tr_with_the_batches_of_the_search(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--search.steps", "8", "--search.batch_size", "4"))
    sample, d_tr = sample_of(run)
    trained: list[tuple[int, ...]] = []

    def descend(*given: Any) -> None:
        batch = given[4]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            trained.append(tuple(ids[mask.bool()].tolist()))

    monkeypatch.setattr(head, "_descend", descend)
    train_head(run, run.data.train.select(d_tr), sample)
    assert sorted(trained) == sorted(map(tuple, run.data.train.select(d_tr)["input_ids"])), "8 x 4 rows: one epoch"


def test_the_head_is_clipped_and_decays_as_w_does_in_the_search(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ("--search.learning_rate", "0.1", "--search.weight_decay", "0.5", "--search.gradient_clipping", "1e-20")
    run = run_of(tiny_config("--search.steps", "4", *rates))
    sample, d_tr = sample_of(run)
    seen: list[torch.Tensor] = []

    def loss(model: Any, sample: Sample) -> float:
        seen.append(model.classifier.weight.detach().clone())
        return -float(len(seen))

    monkeypatch.setattr(head, "_loss", loss)
    model, _ = train_head(run, run.data.train.select(d_tr), sample)
    torch.testing.assert_close(model.classifier.weight, seen[0] * (1 - 0.1 * 0.5) ** 4)


def test_each_step_is_adamws_on_its_own_batch(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--search.steps", "3", "--search.learning_rate", "0.05", dropout=0.0))
    sample, d_tr = sample_of(run)
    rows, search = run.data.train.select(d_tr), run.config.search
    losses = iter([1.0, 0.5])
    monkeypatch.setattr(head, "_loss", lambda model, sample: next(losses))  # the last weights are kept
    found, _ = train_head(run, rows, sample)
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    model.train()
    optimizer = torch.optim.AdamW(weights, lr=search.learning_rate, weight_decay=search.weight_decay)
    batches = iter(EndlessLoader(rows, search.batch_size, run.data.collate, run.config.seed))
    for _ in range(3):
        optimizer.zero_grad()
        model(**next(batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, search.gradient_clipping)
        optimizer.step()
    torch.testing.assert_close(found.classifier.weight, model.classifier.weight, rtol=0, atol=1e-6)


def test_the_head_of_accumulated_batches_is_that_of_the_large_batch(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    heads = []
    for batch, parts in ((16, 1), (8, 2)):  # ten rows: one batch, or parts of eight and of two
        sizes = ("--search.batch_size", str(batch), "--search.gradient_accumulation", str(parts))
        run = run_of(tiny_config("--search.steps", "4", "--task.train_rows", "20", *sizes, dropout=0.0))
        sample, d_tr = sample_of(run)
        heads.append(train_head(run, run.data.train.select(d_tr), sample)[0].classifier.weight)
    torch.testing.assert_close(*heads, rtol=0, atol=1e-4)


@pytest.mark.trains
@pytest.mark.parametrize("dropout", [True, False])
def test_the_head_has_dropout_as_w_has_in_the_search(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    monkeypatch: pytest.MonkeyPatch,
    dropout: bool,
) -> None:
    bench = run_of(tiny_config("--search.steps", "2", "--search.dropout", str(dropout).lower()))
    sample, d_tr = sample_of(bench)
    modes: list[bool] = []
    monkeypatch.setattr(head, "_descend", lambda run, model, *_: modes.append(model.training))
    monkeypatch.setattr(head, "_loss", lambda *_: 1.0)
    train_head(bench, bench.data.train.select(d_tr), sample)
    assert modes == [dropout] * 2
