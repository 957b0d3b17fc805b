"""Every row comes once an epoch in an order of the seed, and accumulated batches make the step of
one large batch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from autolora.configs.schema import RunConfig
from autolora.configs.training import RetrainConfig
from autolora.engine.interrupt import Interrupted, StopRequest
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.fit import RetrainTrainer, fit, seconds_of, training_arguments
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import Processes
from autolora.problems.tasks.scoring import Scoring
from tests.helpers.encoded import encoded
from tests.helpers.heads import NO, TOKENS, collate, rows_with, tiny_bert, tiny_gpt2
from tests.helpers.retraining import FEW, retrain, rows_of, with_ranks
from tests.helpers.stages import Stages

CPU = Compute(torch.device("cpu"), bf16=False)


@pytest.mark.trains
def test_an_epoch_is_every_row_once_and_the_next_has_another_order(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Stages],
    seen: list[dict[str, Any]],
) -> None:
    config, _ = with_ranks(
        tiny_config(*FEW, "--retrain.max_steps", "null", "--retrain.epochs", "2")
    )
    retrain(config)
    rows = rows_of(seen)
    expected = sorted(tuple(ids) for ids in run_of(config).rows.train.examples["input_ids"])
    assert len(rows) == 40
    assert sorted(rows[:20]) == sorted(rows[20:]) == expected
    assert rows[:20] != rows[20:]


def gradients(model: Any, labels: list[Any], batches: int, folder: Path) -> list[Any]:
    """Those of the one step that all rows make together, in so many batches."""
    rows = encoded(rows_with(labels), collate)
    found: list[Any] = []

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.extend(p.grad.clone() for p in model.parameters())

    settings = RetrainConfig(
        batch_size=len(labels) // batches,
        gradient_accumulation=batches,
        gradient_clipping=0.0,
        max_steps=1,
    )
    training = Training(rows, Scoring(None), settings)
    fit(Prepared(model, callbacks=[Keep()]), training, World(CPU, work=folder))
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
    make: Callable[[], Any], labels: list[Any], tmp_path: Path
) -> None:
    whole, *others = (gradients(make(), labels, n, tmp_path / str(n)) for n in (1, 2, 4))
    for found in others:
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-7)


def test_the_seconds_of_a_resumed_training_go_on_from_those_before_the_stop(
    tmp_path: Path,
) -> None:
    """The steps before the stop take a fifth of a second longer than those after it."""
    rows = rows_with([0, 2, 1, 1])
    stop = StopRequest()
    settings = RetrainConfig(max_steps=4, batch_size=2)

    def stopping(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        time.sleep(0.1)
        stop.code = 130
        return collate(batch)

    def model() -> Prepared:
        return Prepared(tiny_bert(BertForSequenceClassification))

    def training(collate: Any) -> Training:
        return Training(encoded(rows, collate), Scoring(None), settings)

    with pytest.raises(Interrupted):
        fit(model(), training(stopping), World(CPU, work=tmp_path, stop=stop))
    step = checkpoint.newest(tmp_path)
    assert step is not None
    stopped = checkpoint.place(tmp_path, step) / checkpoint.STATE
    before = seconds_of(TrainerState.load_from_json(str(stopped)))
    _, state = fit(model(), training(collate), World(CPU, work=tmp_path))
    assert (step, state.global_step) == (1, 4)
    assert 0.1 < before < seconds_of(state)


SECTION: dict[str, tuple[float | str, str, float | str]] = {
    "epochs": (7.0, "num_train_epochs", 7.0),
    "max_steps": (11, "max_steps", 11),
    "learning_rate": (0.5, "learning_rate", 0.5),
    "batch_size": (5, "per_device_train_batch_size", 5),
    "gradient_accumulation": (3, "per_device_train_batch_size", 48),
    "weight_decay": (0.25, "weight_decay", 0.25),
    "warmup_ratio": (0.125, "warmup_steps", 0.125),
    "scheduler": ("cosine", "lr_scheduler_type", "cosine"),
    "gradient_clipping": (2.5, "max_grad_norm", 2.5),
    "checkpoint_every": (9, "save_steps", 9),
}
"""A key of the section `retrain`: a value, and the argument of Trainer that then has a value."""


def test_every_key_of_the_section_reaches_trainer(tmp_path: Path) -> None:
    """But that of the evaluation."""
    assert SECTION.keys() == RetrainConfig.model_fields.keys() - {"eval_batch_size"}
    rows: Any = None
    for key, (value, argument, expected) in SECTION.items():
        training = Training(rows, Scoring(None), RetrainConfig(**{key: value}))
        arguments = training_arguments(Prepared(torch.nn.Linear(1, 1)), training, CPU, tmp_path)
        assert getattr(arguments, argument) == expected, key


ROWS = 11
BATCH = 2


def steps_of(processes: Processes, labels: list[Any], folder: Path) -> list[dict[str, Any]]:
    """What a process gets of each step of an epoch, two batches a step. Trainer makes `folder`."""

    def numbers(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor([row["number"] for row in rows])}

    rows = Dataset.from_dict(
        {"number": list(range(ROWS)), "labels": labels, "length": list(range(ROWS))}
    )
    args = TrainingArguments(str(folder), per_device_train_batch_size=BATCH * 2, use_cpu=True)
    trainer = RetrainTrainer(
        model=torch.nn.Linear(1, 1),
        args=args,
        train_dataset=encoded(rows, numbers),
        data_collator=numbers,
        batch=BATCH,
        compute=CPU,
        processes=processes,
    )
    return list(trainer.get_train_dataloader())


def numbers_of(step: dict[str, Any]) -> list[int]:
    return [number for batch in step["batches"] for number in batch["number"].tolist()]


@pytest.mark.parametrize("size", [1, 3])
def test_the_parts_of_a_step_make_it_whole_and_a_share_counts_labels_not_rows(
    size: int, tmp_path: Path
) -> None:
    """A sentence of three labels weighs three times one of a single label; who would have no row
    gets one that counts nothing."""
    labels = [[0, 0, 0, NO] if number % 2 else [0, NO, NO, NO] for number in range(ROWS)]
    shared = [steps_of(Processes(rank, size), labels, tmp_path) for rank in range(size)]
    for number, whole in enumerate(steps_of(Processes(), labels, tmp_path)):
        total = sum(3 if n % 2 else 1 for n in numbers_of(whole))
        found = []
        for own in (process[number] for process in shared):
            for batch, share in zip(own["batches"], own["shares"], strict=True):
                rows = batch["number"].tolist()
                found += rows if share else []
                assert share in (0.0, pytest.approx(sum(3 if n % 2 else 1 for n in rows) / total))
        assert sorted(found) == sorted(numbers_of(whole))
