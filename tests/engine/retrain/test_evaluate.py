"""The evaluation after a training: each split is measured on its own rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.measure.judged import calibrated
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.rows import numbered
from autolora.engine.retrain import held_out, row_losses
from autolora.engine.retrain.fit import fit
from autolora.engine.retrain.methods import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.data import Data
from autolora.problems.models.load import load_base
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
from tests.helpers.retraining import FEW


@pytest.mark.trains
def test_each_split_is_measured_with_its_own_rows_in_their_order(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    config = tiny_config(*FEW, "--retrain.max_steps", "1", "--retrain.eval_batch_size", "3")
    run = run_of(config)
    train, likelihood = run.data.train, likelihood_of(run.task)
    splits = {"one": train.select(range(7)), "two": train.select([19, 3, 11])}
    seen: list[tuple[list[int], list[int]]] = []
    measured: list[tuple[Tensor, Tensor]] = []

    class Task(type(run.task)):  # type: ignore[misc]
        def metrics(self, outputs: Any, labels: Any, rows: Any = None) -> dict[str, float]:
            seen.append((labels.tolist(), rows["labels"][:]))
            measured.append(likelihood.statistics(torch.from_numpy(outputs), torch.from_numpy(labels)))
            return {"count": float(len(outputs))}

        def predictions(self, outputs: Any, labels: Any, rows: Any) -> str:
            return f"{len(rows)} rows\n"

        def combine(self, by_split: Any) -> dict[str, float]:
            return {name: found["count"] for name, found in by_split.items()}

    model = load_base(config.model, run.task.auto_class, **run.task.head()).model
    run.task = Task(config.task, config.seed)
    data = Data(train, splits, run.data.collate)
    fitted = fit(run, Prepared(model), data, tmp_path / "fit")
    assert [labels for labels, _ in seen] == [rows for _, rows in seen]
    assert [rows for _, rows in seen] == [splits[name]["labels"][:] for name in ("one", "two")]
    assert fitted.metrics == {"one": 7.0, "two": 3.0}
    assert fitted.predictions == "7 rows\n3 rows\n"
    statistics, weights = (torch.cat(parts).double() for parts in zip(*measured, strict=True))
    sources = numbered([tuple(ids) for rows in splits.values() for ids in rows["input_ids"][:]])
    judged = calibrated(likelihood, statistics, weights, sources)
    assert judged is not None
    assert fitted.calibrated_loss == pytest.approx(judged.loss)


@pytest.mark.trains
def test_a_language_model_has_a_loss_at_a_fitted_temperature_and_is_evaluated_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    original = held_out.measured

    def measured(model: Any, run: Any, collate: Any, rows: Any, likelihood: Any) -> Any:
        passes.append(len(rows))
        return original(model, run, collate, rows, likelihood)

    for module in (held_out, row_losses):
        monkeypatch.setattr(module, "measured", measured)
    model, data = save_causal(tmp_path / "model", "gpt2"), write_e2e(tmp_path / "data")
    options = ["--method", "lora", "--retrain.row_losses", "true", "--task.metrics", "[perplexity]"]
    folder = run_stages(
        parse([*arguments(model, data, tmp_path / "runs", "[c_attn]"), *options]), StopRequest(), draw=False
    )
    result, rows = json.loads(folder.metrics.read_text()), pd.read_parquet(folder.row_losses)
    assert result["calibrated_loss"] == pytest.approx(rows["loss"].sum() / rows["weight"].sum(), rel=1e-6)
    assert passes == [len(rows)]
