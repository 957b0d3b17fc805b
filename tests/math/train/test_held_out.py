"""A pass over held-out rows, against sums over one row at a time in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from autolora.configs.schema import RunConfig
from autolora.engine.measure.likelihood import Categorical
from autolora.engine.retrain.held_out import measured, tokens
from autolora.engine.run.context import Context
from tests.helpers.heads import NO, TOKENS, collate, rows_with, tiny_gpt2

ROWS = [*TOKENS, [NO, NO, NO, NO, NO, NO], [NO, 0, 1, 1, 2, 0], [NO, 1, 1, NO, NO, NO]]
"""Of seven rows, one has no label."""


def oracle(model: Any, rows: Dataset) -> tuple[list[float], int, int]:
    """The loss of each row, summed over its labels; how many labels have the largest logit; and how many there are."""
    model = model.double().eval()
    losses, hits, count = [], 0, 0
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(float(nn.functional.cross_entropy(logits, labels, reduction="sum")))
        hits += int(((logits.argmax(-1) == labels) & (labels != NO)).sum())
        count += int((labels != NO).sum())
    model.float()
    return losses, hits, count


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64])
def test_the_loss_and_the_accuracy_of_tokens_are_over_all_labels_at_every_batch_size(
    batch: int, tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    model, rows = tiny_gpt2(), rows_with(ROWS)
    run = run_of(tiny_config("--retrain.eval_batch_size", str(batch)))
    losses, hits, count = oracle(model, rows)
    found = tokens(model, run, collate, rows)
    assert found.loss == pytest.approx(sum(losses) / count, rel=1e-5)
    assert found.accuracy == hits / count
    assert found.weights.sum() == count
    at_one = Categorical(shifted=True).losses(found.statistics, 1.0, found.weights)
    np.testing.assert_allclose(at_one.numpy(), losses, rtol=1e-5, atol=1e-6)


def test_rows_without_a_label_have_no_loss(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    found = tokens(tiny_gpt2(), run_of(tiny_config()), collate, rows_with([[NO] * 6]))
    assert np.isnan(found.loss)
    assert np.isnan(found.accuracy)


def test_the_model_runs_in_the_precision_of_its_weights_and_once_over_each_row(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    model, seen = tiny_gpt2().train(), list[tuple[torch.dtype, int]]()
    model.transformer.h[0].register_forward_hook(lambda m, i, out: seen.append((out[0].dtype, len(i[0]))))
    run = run_of(tiny_config("--precision", "bf16", "--retrain.eval_batch_size", "3"))
    measured(model, run, collate, rows_with(ROWS), Categorical(shifted=True))
    assert seen == [(torch.float32, 3), (torch.float32, 3), (torch.float32, 1)]
