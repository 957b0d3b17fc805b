"""The loss of every held-out row, against one computed by hand from the adapter that was
written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from autolora.configs.schema import RunConfig
from tests.helpers.retraining import FEW, retrain, with_ranks
from tests.helpers.stages import Stages


@pytest.mark.trains
def test_each_row_is_judged_at_the_temperature_of_the_others(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Stages]
) -> None:
    options = (*FEW, "--task.unused_rows", "15", "--retrain.learning_rate", "0.02")
    config, folder = with_ranks(tiny_config(*options))
    retrain(config)
    found = pd.read_parquet(folder.row_losses)
    run = run_of(config)
    model = PeftModel.from_pretrained(run.base().model, folder.adapter).eval()
    parts: dict[str, Any] = {**run.rows.evaluation, "unused": run.rows.unused}
    batches = [rows.batch(range(len(rows))) for rows in parts.values()]
    with torch.no_grad():
        logits = torch.cat([model(**batch).logits.double() for batch in batches])
    labels = torch.cat([batch["labels"] for batch in batches])
    places = [(name, number) for name, rows in parts.items() for number in range(len(rows))]
    assert list(zip(found["split"], found["row"], strict=True)) == places
    assert (found["split"] == "unused").sum() == 15
    assert (found["weight"] == 1).all()
    texts = [tuple(ids) for rows in parts.values() for ids in rows.examples["input_ids"][:]]
    assert found["source"].tolist() == pd.factorize(pd.Series(texts))[0].tolist()
    even = found["source"].to_numpy() % 2 == 0  # both copies of a sentence are in one half
    expected = np.zeros(len(labels))
    for half in (even, ~even):

        def loss(log_temperature: float, half: np.ndarray = half) -> float:
            summed = float(
                cross_entropy(logits[half] / np.exp(log_temperature), labels[half], reduction="sum")
            )
            # the price of a temperature below 1
            return summed + 0.5 * min(0.0, log_temperature / np.log(2)) ** 2

        best = minimize_scalar(loss, bounds=(np.log(0.125), np.log(16)), method="bounded").x
        expected[~half] = cross_entropy(
            logits[~half] / np.exp(best), labels[~half], reduction="none"
        ).numpy()
    np.testing.assert_allclose(found["loss"], expected, atol=3e-3)
