"""Every row comes once an epoch in an order of the seed, and accumulated batches make the step of one large batch."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
)

from configs.schema import RunConfig
from engine.retrain.fit import fit
from engine.retrain.methods import Prepared
from engine.run.context import Context
from problems.data import Data
from problems.tasks.generation import smoothed_loss
from tests.helpers.retraining import FEW, retrain, rows_of, with_ranks


@pytest.mark.trains
def test_an_epoch_is_every_row_once_and_the_next_has_another_order(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], seen: list[dict[str, Any]]
) -> None:
    config, _ = with_ranks(tiny_config(*FEW, "--retrain.max_steps", "null", "--retrain.epochs", "2"))
    retrain(config)
    rows = rows_of(seen)
    expected = sorted(tuple(ids) for ids in run_of(config).data.train["input_ids"])
    assert len(rows) == 40
    assert sorted(rows[:20]) == sorted(rows[20:]) == expected
    assert rows[:20] != rows[20:]


def tiny_bert(kind: type) -> Any:
    settings = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    return kind(settings)


def tiny_gpt2() -> Any:
    torch.manual_seed(0)
    dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=8, n_embd=8, n_layer=1, n_head=2, **dropout))
    model.loss_function = partial(smoothed_loss, smoothing=0.1)
    return model


def gradients(model: Any, labels: list[Any], batches: int, config: RunConfig, run: Context, folder: Path) -> list[Any]:
    """Those of the one step that all rows make together, in so many batches."""
    ids = torch.randint(1, 30, (len(labels), 6), generator=torch.Generator().manual_seed(1)).tolist()
    rows = Dataset.from_dict({"input_ids": ids, "labels": labels, "length": [6] * len(labels)})
    found: list[Any] = []

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.extend(p.grad.clone() for p in model.parameters())

    def collate(part: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in part]) for name in ("input_ids", "labels")}

    settings = dataclasses.replace(
        config.retrain, batch_size=len(labels) // batches, gradient_accumulation=batches, gradient_clipping=0.0,
        max_steps=1,
    )  # fmt: skip
    config = dataclasses.replace(config, retrain=settings, precision="fp32")
    data = Data(rows, {"validation": rows}, collate)
    fit(run.under(config), Prepared(model, callbacks=[Keep()]), data, folder)
    return found


NO = -100
TOKENS = [[NO, 1, 2, 0, 1, 2], [NO, NO, NO, NO, NO, 1], [NO, 2, 2, 2, 2, 2], [NO, 1, NO, NO, NO, 1]]


@pytest.mark.trains
@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda: tiny_bert(BertForSequenceClassification), [0, 2, 1, 1]),
        (lambda: tiny_bert(BertForTokenClassification), TOKENS),
        (tiny_gpt2, TOKENS),
    ],
    ids=["a label a row", "a label a word", "next tokens"],
)
def test_accumulated_batches_make_the_step_of_one_large_batch(
    make: Callable[[], Any], labels: list[Any], tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context],
    tmp_path: Path,
) -> None:  # fmt: skip
    config = tiny_config("--precision", "fp32")
    run = run_of(config)

    class Task(type(run.task)):  # type: ignore[misc]
        reads_outputs = False

    run.task.__class__ = Task
    whole, parts, one_each = (
        gradients(make(), labels, batches, config, run, tmp_path / str(batches)) for batches in (1, 2, 4)
    )
    for a, b, c in zip(whole, parts, one_each, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(c, a, rtol=1e-5, atol=1e-7)
