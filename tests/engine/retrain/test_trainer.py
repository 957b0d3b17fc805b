"""Every row comes once an epoch in an order of the seed, and accumulated batches make the step of one large batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification, BertForTokenClassification, TrainerCallback

from autolora.configs.layers import with_values
from autolora.configs.schema import RunConfig
from autolora.engine.retrain.fit import fit
from autolora.engine.retrain.methods import Prepared
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from tests.helpers.heads import TOKENS, collate, rows_with, tiny_bert, tiny_gpt2
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


def gradients(model: Any, labels: list[Any], batches: int, config: RunConfig, run: Context, folder: Path) -> list[Any]:
    """Those of the one step that all rows make together, in so many batches."""
    rows = rows_with(labels)
    found: list[Any] = []

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.extend(p.grad.clone() for p in model.parameters())

    rows_a_step = {"retrain.batch_size": len(labels) // batches, "retrain.gradient_accumulation": batches}
    one_step = {"retrain.gradient_clipping": 0.0, "retrain.max_steps": 1, "precision": "fp32"}
    config = with_values(config, rows_a_step | one_step)
    data = Data(rows, {"validation": rows}, collate)
    fit(run.under(config), Prepared(model, callbacks=[Keep()]), data, folder)
    return found


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
        def metrics(self, outputs: Any, labels: Any, rows: Any) -> dict[str, float]:
            return {}

        def predictions(self, outputs: Any, labels: Any, rows: Any) -> None:
            return None

    run.task.__class__ = Task
    whole, parts, one_each = (
        gradients(make(), labels, batches, config, run, tmp_path / str(batches)) for batches in (1, 2, 4)
    )
    for a, b, c in zip(whole, parts, one_each, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(c, a, rtol=1e-5, atol=1e-7)


@pytest.mark.trains
def test_another_seed_has_another_order_of_the_same_rows(
    tiny_config: Callable[..., RunConfig], seen: list[dict[str, Any]]
) -> None:
    orders = []
    for seed in ("0", "1"):
        seen.clear()
        epoch = ("--retrain.max_steps", "null", "--retrain.epochs", "1", "--task.seed", "0")
        config, _ = with_ranks(tiny_config(*FEW, *epoch, "--seed", seed, "--name", f"seed-{seed}"))
        retrain(config)
        orders.append(rows_of(seen))
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
