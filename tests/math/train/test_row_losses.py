"""The loss of every held-out row, against one computed by hand from the adapter that was written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.problems.models.load import load_base
from tests.helpers.retraining import FEW, retrain, with_ranks


def logits_of(config: RunConfig, run: Context) -> tuple[Tensor, Tensor, list[tuple[str, int]]]:
    """Logits and labels of all held-out rows, one at a time, by plain PEFT, and the place of each."""
    data = run.data
    base = load_base(config.model, run.task.auto_class, **run.task.head()).model
    model: Any = PeftModel.from_pretrained(base, run.folder.adapter).eval()
    logits, labels, places = [], [], []
    parts: dict[str, Any] = {**data.evaluation, "unused": data.unused}
    for name, rows in parts.items():
        for number in range(len(rows)):
            batch = run.data.collate(rows.__getitems__([number]))
            labels.append(batch.pop("labels"))
            with torch.no_grad():
                logits.append(model(**batch).logits.double())
            places.append((name, number))
    return torch.cat(logits), torch.cat(labels), places


@pytest.mark.trains
def test_each_row_is_judged_at_the_temperature_of_the_others(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    options = (*FEW, "--task.unused_rows", "15", "--retrain.learning_rate", "0.02")
    config, folder = with_ranks(tiny_config(*options))
    retrain(config)
    found = pd.read_parquet(folder.row_losses)
    logits, labels, places = logits_of(config, run_of(config))
    assert list(zip(found["split"], found["row"], strict=True)) == places
    assert (found["split"] == "unused").sum() == 15
    assert (found["weight"] == 1).all()
    data = run_of(config).data
    parts: list[Any] = [*data.evaluation.values(), data.unused]
    texts = [tuple(ids) for rows in parts for ids in rows["input_ids"][:]]
    assert found["source"].tolist() == pd.factorize(pd.Series(texts))[0].tolist()
    even = found["source"].to_numpy() % 2 == 0  # both copies of a sentence are in one half
    expected = np.zeros(len(labels))
    for half in (even, ~even):

        def loss(log_temperature: float, half: np.ndarray = half) -> float:
            summed = float(cross_entropy(logits[half] / np.exp(log_temperature), labels[half], reduction="sum"))
            return summed + 0.5 * min(0.0, log_temperature / np.log(2)) ** 2  # the price of a temperature below 1

        best = minimize_scalar(loss, bounds=(np.log(0.125), np.log(16)), method="bounded").x
        expected[~half] = cross_entropy(logits[~half] / np.exp(best), labels[~half], reduction="none").numpy()
    np.testing.assert_allclose(found["loss"], expected, atol=3e-3)
