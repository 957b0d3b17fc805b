"""Stage 2's loop: stopped and resumed is bit-equal, every row comes once an epoch, the order depends on the seed."""

from __future__ import annotations

import dataclasses
import json
import shutil
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

from configs.errors import UserError
from configs.requests import Request
from configs.schema import RunConfig
from engine.retrain.fit import fit
from engine.retrain.trainer import RetrainTrainer
from engine.run.folder import RunFolder
from engine.run.interrupt import Interrupted, StopRequest
from engine.stages import Run, run_stages
from problems.data import Data
from problems.models.load import load_base
from problems.tasks.generation import smoothed_loss

RANKS = {"layers": [{"name": f"bert.encoder.layer.{i}.attention.self.query", "rank": 2 + i} for i in (0, 1)]}
FEW = ("--task.train_rows", "20", "--lora.dropout", "0.1")


def with_ranks(config: RunConfig) -> tuple[RunConfig, RunFolder]:
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    folder.root.mkdir(parents=True)
    folder.ranks.write_text(json.dumps(RANKS))
    return config, folder


def retrain(config: RunConfig, stop: StopRequest | None = None) -> None:
    run_stages(Request(config, "retrain", False, "x"), stop or StopRequest())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that is trained on."""
    batches: list[dict[str, Any]] = []
    original = RetrainTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        batches.append({name: value.tolist() for name, value in inputs.items()})
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(RetrainTrainer, "training_step", training_step)
    return batches


def rows_of(batches: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """The sentences, without padding."""
    return [
        tuple(t for t, real in zip(ids, mask, strict=True) if real)
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_an_epoch_is_every_row_once_and_the_next_has_another_order(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Run], seen: list[dict[str, Any]]
) -> None:
    config, _ = with_ranks(tiny_config(*FEW, "--retrain.max_steps", "null", "--retrain.epochs", "2"))
    retrain(config)
    rows = rows_of(seen)
    expected = sorted(tuple(ids) for ids in run_of(config).data.train["input_ids"])
    assert len(rows) == 40
    assert sorted(rows[:20]) == sorted(rows[20:]) == expected
    assert rows[:20] != rows[20:]


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


def test_a_rate_that_makes_the_lossno_number_is_named_and_nothing_is_exported(
    tiny_config: Callable[..., RunConfig],
) -> None:
    rates = ("--retrain.learning_rate", "1e38", "--retrain.warmup_ratio", "0", "--retrain.gradient_clipping", "0")
    config, folder = with_ranks(tiny_config(*FEW, *rates))
    with pytest.raises(UserError, match=r"^--retrain\.learning_rate: .*not finite at rate 1e\+38"):
        retrain(config)
    assert not folder.metrics.exists()
    assert not folder.adapter.exists()
    shutil.rmtree(folder.root)


def test_retraining_uses_all_training_rows_and_reports_the_evaluation_split(
    tiny_config: Callable[..., RunConfig], seen: list[dict[str, Any]]
) -> None:
    config, folder = with_ranks(
        tiny_config(*FEW, "--task.validation_share", "0.5", "--task.evaluation_split", "train")
    )
    retrain(config)
    assert len(set(rows_of(seen))) == 20, "D_tr and D_val together"
    assert json.loads(folder.metrics.read_text())["split"] == "train"


def test_each_split_is_measured_with_its_own_rows_in_their_order(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Run], tmp_path: Path
) -> None:
    config = tiny_config(*FEW, "--retrain.max_steps", "1", "--retrain.eval_batch_size", "3")
    run = run_of(config)
    train = run.data.train
    splits = {"one": train.select(range(7)), "two": train.select([19, 3, 11])}
    seen: list[tuple[list[int], list[int]]] = []

    class Task(type(run.task)):  # type: ignore[misc]
        def metrics(self, outputs: Any, labels: Any, rows: Any = None) -> dict[str, float]:
            seen.append((labels.tolist(), rows["labels"][:]))
            return {"count": float(len(outputs))}

        def predictions(self, outputs: Any, labels: Any, rows: Any) -> str:
            return f"{len(rows)} rows\n"

        def combine(self, by_split: Any) -> dict[str, float]:
            return {name: found["count"] for name, found in by_split.items()}

    task = Task(config.task, config.seed)
    model = load_base(config.model, run.task.auto_class, **run.task.head()).model
    data = Data(train, splits, run.data.collate)
    fitted = fit(model, data, task, config, run.compute, tmp_path / "fit", StopRequest())
    assert [labels for labels, _ in seen] == [rows for _, rows in seen]
    assert [rows for _, rows in seen] == [splits[name]["labels"][:] for name in ("one", "two")]
    assert fitted.metrics == {"one": 7.0, "two": 3.0}
    assert fitted.predictions == "7 rows\n3 rows\n"


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


def gradients(model: Any, labels: list[Any], batches: int, config: RunConfig, run: Run, folder: Path) -> list[Any]:
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
    fit(model, data, run.task, config, run.compute, folder, StopRequest(), [Keep()])
    return found


NO = -100
TOKENS = [[NO, 1, 2, 0, 1, 2], [NO, NO, NO, NO, NO, 1], [NO, 2, 2, 2, 2, 2], [NO, 1, NO, NO, NO, 1]]


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
    make: Callable[[], Any], labels: list[Any], tiny_config: Callable[..., RunConfig], run_of: Callable[..., Run],
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


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("c++") is None,
    reason="torch.compile on a CPU needs a C++ compiler: g++ or c++",
)
def test_a_compiled_retraining_learns_the_same(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    original = torch.compile

    def compile_(model: Any, *rest: Any, **options: Any) -> Any:
        compiled.append(model)
        return original(model, *rest, **options)

    monkeypatch.setattr(torch, "compile", compile_)
    losses = []
    for name, times in (("false", 0), ("true", 1)):
        arguments = ("--retrain.torch_compile", name, "--precision", "fp32", "--retrain.max_steps", "3")
        config, folder = with_ranks(tiny_config(*arguments, "--name", f"compile-{name}"))
        retrain(config)
        losses.append(json.loads(folder.metrics.read_text())["loss"])
        assert (folder.adapter / "adapter_model.safetensors").exists()
        assert min(len(compiled), 1) == times
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
