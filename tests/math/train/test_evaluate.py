"""The evaluation after a training, against sums over one row at a time in float64: a mean over labels at every batch
size, in the precision of the weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertForSequenceClassification, BertForTokenClassification

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.measure.likelihood import Categorical
from autolora.engine.retrain import evaluate
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
from tests.helpers.heads import NO, TOKENS, collate, rows_with, tiny_bert, tiny_gpt2

WORDS = [*TOKENS, [NO, NO, NO, NO, NO, NO], [NO, 0, 1, 1, 2, 0], [NO, 1, 1, NO, NO, NO]]
"""Of seven rows, one without a label: as a batch of its own its mean is no number."""


def of_numbers() -> Any:
    model = tiny_bert(BertForSequenceClassification, labels=1)
    model.config.problem_type = "regression"
    return model


KINDS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "classes": (lambda: tiny_bert(BertForSequenceClassification), [0, 2, 1, 1, 0, 2, 2]),
    "numbers": (of_numbers, [0.5, 2.0, 1.25, 1.0, 0.125, 2.0, 3.25]),
    "words": (lambda: tiny_bert(BertForTokenClassification), WORDS),
}


def oracle(model: Any, rows: Dataset) -> tuple[list[float], int, int]:
    """The loss of each row, summed over its labels; how many labels have the largest logit; and how many there are."""
    model = model.double().eval()
    losses, hits, count = [], 0, 0
    for row in rows:
        labels = torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        if labels.is_floating_point():
            losses.append(float((logits[0] - labels.double()) ** 2))
            count += 1
            continue
        if "GPT2" in type(model).__name__:
            logits, labels = logits[:-1], labels[1:]
        losses.append(float(nn.functional.cross_entropy(logits, labels, reduction="sum")))
        hits += int(((logits.argmax(-1) == labels) & (labels != NO)).sum())
        count += int((labels != NO).sum()) if labels.dim() else 1
    model.float()
    return losses, hits, count


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_labels_and_the_outputs_are_in_the_order_of_the_rows(
    kind: str, batch: int, tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    make, labels = KINDS[kind]
    model, rows = make(), rows_with(labels)
    rows = rows.remove_columns("length").add_column("length", [2, 5, 3, 6, 5, 1, 4])
    run = run_of(tiny_config("--retrain.eval_batch_size", str(batch), "--precision", "bf16"))
    outputs, found, loss = evaluate.outputs_of(model, run, collate, rows)
    losses, _, count = oracle(model, rows)
    assert loss == pytest.approx(sum(losses) / count, rel=1e-6)
    assert found.tolist() == rows["labels"][:]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(rows["input_ids"][:])).logits
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=0, atol=1e-6)


def test_rows_of_words_are_padded_to_the_longest(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    model = tiny_bert(BertForTokenClassification)
    rows = Dataset.from_dict({"input_ids": [[3, 4], [5, 6, 7]], "labels": [[0, 1], [2, 1, 0]], "length": [2, 3]})
    outputs, labels, _ = evaluate.outputs_of(
        model, run_of(tiny_config("--retrain.eval_batch_size", "1")), collate, rows
    )
    assert labels.tolist() == [[0, 1, NO], [2, 1, 0]]
    assert (outputs.shape, set(outputs[0, 2])) == ((2, 3, 3), {NO})


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_loss_and_the_accuracy_of_tokens_are_over_all_labels_at_every_batch_size(
    batch: int, tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    model, rows = tiny_gpt2(), rows_with(WORDS)
    run = run_of(tiny_config("--retrain.eval_batch_size", str(batch)))
    losses, hits, count = oracle(model, rows)
    found = evaluate.tokens(model, run, collate, rows)
    assert found.loss == pytest.approx(sum(losses) / count, rel=1e-5)
    assert found.accuracy == hits / count
    assert found.weights.sum() == count
    at_one = Categorical(shifted=True).losses(found.statistics, 1.0, found.weights)
    np.testing.assert_allclose(at_one.numpy(), losses, rtol=1e-5, atol=1e-6)


def test_the_model_runs_in_the_precision_of_its_weights_and_once_over_each_row(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    model, seen = tiny_gpt2().train(), list[tuple[torch.dtype, int]]()
    model.transformer.h[0].register_forward_hook(lambda m, i, out: seen.append((out[0].dtype, len(i[0]))))
    run = run_of(tiny_config("--precision", "bf16", "--retrain.eval_batch_size", "3"))
    evaluate.measured(model, run, collate, rows_with(WORDS), Categorical(shifted=True))
    assert seen == [(torch.float32, 3), (torch.float32, 3), (torch.float32, 1)]


@pytest.mark.trains
def test_a_language_model_has_a_loss_at_a_fitted_temperature(tmp_path: Path) -> None:
    model, data = save_causal(tmp_path / "model", "gpt2"), write_e2e(tmp_path / "data")
    options = ["--method", "lora", "--retrain.row_losses", "true", "--task.metrics", "[perplexity]"]
    folder = run_stages(
        parse([*arguments(model, data, tmp_path / "runs", "[c_attn]"), *options]), StopRequest(), draw=False
    )
    result, rows = json.loads(folder.metrics.read_text()), pd.read_parquet(folder.row_losses)
    assert result["calibrated_loss"] == pytest.approx(rows["loss"].sum() / rows["weight"].sum(), rel=1e-6)
