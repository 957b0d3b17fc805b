"""The loss of every held-out row, against one computed by hand from the adapter that was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.retrain import evaluate, held_out
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.load import load_base
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
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
    options = (*FEW, "--retrain.row_losses", "true", "--task.unused_rows", "15", "--retrain.learning_rate", "0.02")
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
    assert len(set(texts)) < len(texts), "some sentences are made twice"
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


@pytest.mark.trains
def test_a_language_model_has_the_loss_of_each_answer_and_writes_no_texts_where_none_is_asked_for(
    tmp_path: Path,
) -> None:
    model, data = save_causal(tmp_path / "model", "gpt2"), write_e2e(tmp_path / "data")
    options = ["--method", "lora", "--retrain.row_losses", "true", "--task.metrics", "[perplexity]"]
    options += ["--task.train_rows", "8", "--task.unused_rows", "8"]
    request = parse([*arguments(model, data, tmp_path / "runs", "[c_attn]"), *options])
    folder = run_stages(request, StopRequest(), draw=False)
    found = pd.read_parquet(folder.row_losses)
    assert (found["weight"] > 1).all()
    unused = found[found["split"] == "unused"]
    assert unused["source"].nunique() < len(unused)  # some are references of one record
    assert np.isfinite(found["loss"]).all()
    result = json.loads(folder.metrics.read_text())
    assert set(result["metrics"]) == {"perplexity", "token_accuracy"}
    # The temperature helps a model that has learned little, and is no worse than none by more than chance.
    assert 1 < found["loss"].sum() / found["weight"].sum() < result["loss"] + 0.1
    assert not folder.written.exists()
    assert not folder.predictions.exists()


@pytest.mark.trains
def test_one_row_has_no_other_to_choose_its_temperature(tiny_config: Callable[..., RunConfig]) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.row_losses", "true", "--task.evaluation_rows", "1"))
    with pytest.raises(UserError, match=r"^--retrain.row_losses: there is 1 held-out row; allowed: 2 or more"):
        retrain(config)
    assert not folder.retrain.exists(), "it is refused before the training"
    assert not folder.config.exists(), "with --overwrite, half-done results that were set aside would be removed"


@pytest.mark.trains
def test_one_row_is_refused_before_a_sweep_and_a_sweep_takes_no_losses_of_rows(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ("--retrain.row_losses", "true", "--retrain.learning_rates", "[1e-3,1e-2]")
    config, folder = with_ranks(tiny_config(*FEW, *rates, "--task.evaluation_rows", "1", "--name", "one"))
    with pytest.raises(UserError, match=r"^--retrain.row_losses: there is 1 held-out row"):
        retrain(config)
    assert not folder.sweep.exists()
    calls, original = [], evaluate.row_losses

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(evaluate, "row_losses", counted)
    config, folder = with_ranks(tiny_config(*FEW, *rates))
    retrain(config)
    assert len(calls) == 1, "of the retraining, not of the trials"
    assert folder.row_losses.exists()


@pytest.mark.trains
def test_unused_rows_too_are_judged_in_the_weights_own_precision(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a model would have one loss on a row of the evaluation and another on an equal unused one."""
    computes: list[Any] = []
    original = held_out.Sample

    def sample(rows: Any, collate: Any, likelihood: Any, compute: Any, *more: Any, **options: Any) -> Any:
        computes.append(compute)
        return original(rows, collate, likelihood, compute, *more, **options)

    monkeypatch.setattr(held_out, "Sample", sample)
    asked = ("--retrain.row_losses", "true", "--task.unused_rows", "15", "--precision", "bf16")
    config, _ = with_ranks(tiny_config(*FEW, *asked, "--retrain.max_steps", "1"))
    retrain(config)
    assert [compute.bf16 for compute in computes] == [False]
