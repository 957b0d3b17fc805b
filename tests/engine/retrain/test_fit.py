"""Stage 2's loop: stopped and resumed is bit-equal, and trains on all rows."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import Trainer

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.retrain.fit import training_arguments
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import Interrupted, StopRequest
from tests.helpers.retraining import FEW, retrain, rows_of, with_ranks


@pytest.mark.trains
def test_stopped_and_resumed_is_bit_equal(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, seen: list[dict[str, Any]]
) -> None:
    arguments = (*FEW, "--retrain.max_steps", "8", "--retrain.warmup_ratio", "0.3")
    config, whole = with_ranks(tiny_config("--name", "whole", *arguments))
    retrain(config)
    batches = list(seen)
    config, folder = with_ranks(tiny_config("--name", "stopped", *arguments))
    seen.clear()
    stop = StopRequest()
    counted = RetrainTrainer.training_step

    def training_step(self: Any, *rest: Any, **options: Any) -> torch.Tensor:
        if len(seen) == 4:
            stop.code = 130
        return counted(self, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RetrainTrainer, "training_step", training_step)
        with pytest.raises(Interrupted):
            retrain(config, stop)
    assert len(seen) == 5
    assert not folder.metrics.exists()
    torch.manual_seed(77)
    retrain(config)
    assert seen == batches
    name = "adapter_model.safetensors"
    assert (folder.adapter / name).read_bytes() == (whole.adapter / name).read_bytes()
    first, second = (json.loads(f.metrics.read_text()) for f in (whole, folder))
    assert (first["metrics"], first["loss"], first["steps"]) == (second["metrics"], second["loss"], second["steps"])
    assert not folder.retrain.exists()
    curves = [[json.loads(line) for line in f.retrain_metrics.read_text().splitlines()] for f in (whole, folder)]
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other)


@pytest.mark.trains
def test_the_steps_between_checkpoints_may_change_when_a_training_resumes(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, seen: list[dict[str, Any]]
) -> None:
    """Trainer took the old number from its checkpoint, so that the new one did nothing."""
    arguments = (*FEW, "--retrain.max_steps", "8")
    counted = RetrainTrainer.training_step

    def dies_at(step: int) -> Callable[..., torch.Tensor]:
        def training_step(self: Any, *rest: Any, **options: Any) -> torch.Tensor:
            if self.state.global_step == step:
                raise ZeroDivisionError
            return counted(self, *rest, **options)

        return training_step

    config, folder = with_ranks(tiny_config(*arguments))
    for every, step in ((2, 3), (1, 6)):
        monkeypatch.setattr(RetrainTrainer, "training_step", dies_at(step))
        with pytest.raises(ZeroDivisionError):
            retrain(with_values(config, {"retrain.checkpoint_every": every}))
    assert sorted(path.name for path in folder.retrain.glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]


@pytest.mark.trains
def test_a_signal_during_the_evaluation_ends_it_and_the_run_resumes(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was swallowed: the run evaluated to the end and returned 0, so that a loop of runs went on."""
    given = (*FEW, "--retrain.max_steps", "2", "--task.evaluation_rows", "8", "--retrain.eval_batch_size", "2")
    whole, there = with_ranks(tiny_config(*given, "--runs_folder", str(tmp_path / "whole")))
    retrain(whole)
    config, folder = with_ranks(tiny_config(*given, "--runs_folder", str(tmp_path / "stopped")))
    stop, original = StopRequest(), RetrainTrainer.predict

    def predict(self: Any, *given: Any) -> Any:
        stop.code = 143
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(RetrainTrainer, "predict", predict)
        with pytest.raises(Interrupted) as interrupted:
            retrain(config, stop)
    assert interrupted.value.code == 143
    assert not folder.metrics.exists()
    retrain(config)
    found, expected = (json.loads(x.metrics.read_text()) for x in (folder, there))
    assert (found["metrics"], found["loss"]) == (expected["metrics"], expected["loss"])


@pytest.mark.trains
def test_retraining_uses_all_training_rows_and_reports_the_evaluation_split(
    tiny_config: Callable[..., RunConfig], seen: list[dict[str, Any]]
) -> None:
    config, folder = with_ranks(
        tiny_config(*FEW, "--task.validation_share", "0.5", "--task.evaluation_split", "validation")
    )
    retrain(config)
    assert len(set(rows_of(seen))) == 20, "D_tr and D_val together"
    assert json.loads(folder.metrics.read_text())["split"] == "validation"


NO_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("c++") is None,
    reason="torch.compile on a CPU needs a C++ compiler: g++ or c++",
)


@pytest.mark.parametrize(
    "backend",
    [
        # The same graphs, traced and cut alike; only the C++ is left out, whose compilation takes a minute.
        pytest.param("aot_eager", marks=pytest.mark.slow),
        pytest.param("inductor", marks=[pytest.mark.soak, NO_COMPILER]),
    ],
)
def test_a_compiled_retraining_learns_the_same(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    compiled: list[Any] = []
    original = torch.compile

    def compile_(model: Any, *rest: Any, **options: Any) -> Any:
        compiled.append(model)
        assert options.pop("backend") == "inductor"
        assert torch._inductor.config.fallback_random, "masks would depend on the graphs"
        return original(model, *rest, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", compile_)
    losses = []
    for name, times in (("false", 0), ("true", 1)):
        arguments = ("--retrain.torch_compile", name, "--precision", "fp32", "--retrain.max_steps", "3")
        arguments += ("--retrain.learning_rate", "0.02", "--lora.dropout", "0.3")
        config, folder = with_ranks(tiny_config(*arguments, "--name", f"compile-{name}"))
        retrain(config)
        losses.append(json.loads(folder.metrics.read_text())["loss"])
        assert (folder.adapter / "adapter_model.safetensors").exists()
        assert min(len(compiled), 1) == times
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert not torch._inductor.config.fallback_random


@pytest.fixture
def backends() -> Iterator[Any]:
    """torch.backends; after the test CUDA multiplies fp32 as before."""
    found: Any = torch.backends
    everywhere, matmul = found.fp32_precision, found.cuda.matmul.allow_tf32
    yield found
    found.fp32_precision, found.cuda.matmul.allow_tf32 = everywhere, matmul


@pytest.mark.trains
@pytest.mark.parametrize("allowed", [False, True])
def test_compiling_leaves_the_precision_of_fp32_as_it_was(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, backends: Any, allowed: bool
) -> None:
    """On a GPU it turned TF32 on for the rest of the process; here a stub does what accelerate does there."""
    original, steps = Trainer.__init__, RetrainTrainer.training_step
    found: list[tuple[str, bool]] = []

    def init(self: Any, *given: Any, **options: Any) -> None:
        original(self, *given, **options)
        backends.fp32_precision = "ieee"  # as transformers does where tf32 is False
        backends.cuda.matmul.allow_tf32 = True

    def training_step(self: Any, *given: Any, **options: Any) -> torch.Tensor:
        found.append((backends.fp32_precision, backends.cuda.matmul.allow_tf32))
        return steps(self, *given, **options)

    monkeypatch.setattr(Trainer, "__init__", init)
    monkeypatch.setattr(RetrainTrainer, "training_step", training_step)
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    backends.cuda.matmul.allow_tf32 = allowed
    everywhere = backends.fp32_precision
    config, _ = with_ranks(tiny_config(*FEW, "--retrain.torch_compile", "true", "--retrain.max_steps", "1"))
    retrain(config)
    assert found == [(everywhere, allowed)]
    assert (backends.fp32_precision, backends.cuda.matmul.allow_tf32) == (everywhere, allowed)


HALF = [1.0, 0.75, 0.5, 0.25]


@pytest.mark.trains
@pytest.mark.parametrize(
    ("scheduler", "after"), [("constant", [1.0] * 4), ("linear", HALF), ("cosine", [1.0, 0.8536, 0.5, 0.1464])]
)
def test_the_rate_warms_up_and_follows_its_schedule(
    tiny_config: Callable[..., RunConfig], scheduler: str, after: list[float]
) -> None:
    given = ("--retrain.max_steps", "5", "--retrain.warmup_ratio", "0.2", "--retrain.learning_rate", "0.01")
    config, folder = with_ranks(tiny_config(*FEW, *given, "--retrain.scheduler", scheduler))
    retrain(config)
    rates = [json.loads(line)["learning_rate"] for line in folder.retrain_metrics.read_text().splitlines()]
    assert rates == pytest.approx(
        [0.01 * part for part in (*after, 0.0 if scheduler != "constant" else 1.0)], abs=1e-6
    )


def test_the_optimiser_is_told_what_is_configured(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    given = ("--retrain.weight_decay", "0.3", "--retrain.gradient_clipping", "0.25")
    run = run_of(tiny_config(*given))
    found = training_arguments(run.config, run.compute, tmp_path)
    assert (found.weight_decay, found.max_grad_norm) == (0.3, 0.25)


@pytest.mark.trains
def test_the_seconds_before_a_stop_count_and_another_machine_is_told(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.max_steps", "3"))
    stop, original = StopRequest(), RetrainTrainer.training_step

    def training_step(self: Any, *rest: Any, **options: Any) -> Any:
        stop.code = 130
        return original(self, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RetrainTrainer, "training_step", training_step)
        with pytest.raises(Interrupted):
            retrain(config, stop)
    (seal,) = folder.retrain.glob("checkpoint-*/sealed.json")
    assert read_json(seal)["machine"] == {"device": "cpu", "bf16": False}
    write_json(seal, read_json(seal) | {"seconds": 1000.0, "machine": {"device": "cuda", "bf16": True}})
    retrain(config)
    told = "WARNING retrain: began on cuda in bf16 and resumes on cpu in fp32"
    assert any(line.startswith(told) for line in log_lines)
    assert json.loads(folder.metrics.read_text())["seconds"]["retrain"] > 1000


@pytest.mark.trains
def test_the_result_has_the_calibrated_loss_of_all_evaluated_rows(tiny_config: Callable[..., RunConfig]) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.row_losses", "true", "--task.evaluation_rows", "30"))
    retrain(config)
    result, rows = json.loads(folder.metrics.read_text()), pd.read_parquet(folder.row_losses)
    assert result["evaluated_rows"] == len(rows) == 30
    assert result["calibrated_loss"] == pytest.approx(rows["loss"].sum() / rows["weight"].sum(), rel=1e-6)
