"""`learn_ranks_from_trainer`: rows, collator, loss and rate of a transformers.Trainer."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, WeightedRandomSampler
from transformers import (
    Adafactor,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from autolora.configs.schema import RunConfig
from autolora.engine.api import AnswerConfig, UserError, learn_ranks, learn_ranks_from_trainer
from autolora.problems.models.attach import lora_layers
from tests.helpers.api import SHORT
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains

BERT = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"])


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    plain = {"output_dir": str(folder / "out"), "report_to": [], "use_cpu": True, "per_device_train_batch_size": 4,
             "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "seed": 5}  # fmt: skip
    return TrainingArguments(**{**plain, **changes})


def trainer_of(folder: Path, out: Path, kind: type[Trainer] = Trainer, model: Any = None, **changes: Any) -> Trainer:
    """A trainer of the tiny BERT, on rows with a column that the model does not read."""
    torch.manual_seed(0)
    model = model or AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["this film is good", "a bad plot", "the cast was great and warm", "dull"] * 8
    rows = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 8, "text": texts})
    return kind(
        model=model, args=arguments(out, **changes), train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip


def test_a_trainer_gives_its_rows_collator_loss_seed_and_batches(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The same as if each were given by hand, and the trainer then trains as one that was not asked."""
    trainer = trainer_of(model_folder("bert"), tmp_path)
    with left_as_it_was(trainer.model):
        learned = learn_ranks_from_trainer(trainer, BERT, search=SHORT)
    rows = trainer.train_dataset.remove_columns(["text"])
    by_hand = learn_ranks(
        trainer.model, rows, BERT, collate=trainer.data_collator, search=SHORT, seed=5, precision="fp32"
    )
    assert learned.record == by_hand.record
    assert learned.shares is not None
    other = trainer_of(model_folder("bert"), tmp_path)
    for one in (trainer, other):
        set_seed(7)
        one.train()
    assert all(map(torch.equal, trainer.model.state_dict().values(), other.model.state_dict().values()))


class Found(Exception):
    """Holds what a search was to be."""


def configured(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, lora_config: LoraConfig = BERT) -> RunConfig:
    """The configuration of the search on a trainer; no search is made."""

    def find_ranks(given: Any) -> None:
        raise Found(given.config)

    monkeypatch.setattr("autolora.engine.api.learning.find_ranks", find_ranks)
    with pytest.raises(Found) as caught:
        learn_ranks_from_trainer(trainer, lora_config)
    config: RunConfig = caught.value.args[0]
    return config


def test_batches_and_rate_of_the_search_are_the_trainers(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(trainer_of(model_folder("bert"), tmp_path), monkeypatch)
    search = config.search
    assert (search.batch_size, search.gradient_accumulation, search.learning_rate) == (4, 2, 1e-2)
    assert (config.seed, config.precision, config.device) == (5, "fp32", "cpu")
    assert (search.unroll_steps, config.hypergradient.type) == (4, "first_order")


def test_a_trainer_that_divides_a_batch_among_gpus_gives_the_whole_batch(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, Trainer takes `per_device_train_batch_size` rows for each GPU, and the search all on one."""
    trainer = trainer_of(model_folder("bert"), tmp_path)
    trainer.args._n_gpu = 2
    assert configured(trainer, monkeypatch).search.batch_size == 8


def test_the_rate_is_that_of_an_optimizer_that_the_trainer_was_given(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments' rate trains nothing then. Their scheduler has brought the rate of one that has trained to 0."""
    trainer = trainer_of(model_folder("bert"), tmp_path, max_steps=1)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.3)
    assert configured(trainer, monkeypatch).search.learning_rate == 0.3
    trainer.train()
    assert trainer.optimizer.param_groups[0]["lr"] == 0
    assert configured(trainer, monkeypatch).search.learning_rate == 0.3
    trainer.optimizer, trainer.optimizer_cls_and_kwargs = None, (torch.optim.SGD, {"lr": 0.2})
    assert configured(trainer, monkeypatch).search.learning_rate == 0.2


def test_an_optimizer_without_a_rate_or_with_a_peak_has_the_rate_that_is_meant(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(model_folder("bert"), tmp_path)
    weights = trainer.model.parameters()
    trainer.optimizer = Adafactor(weights, lr=None, relative_step=True, scale_parameter=True, warmup_init=True)
    assert configured(trainer, monkeypatch).search.learning_rate == 1e-2, "that of the trainer's arguments"
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    OneCycleLR(trainer.optimizer, max_lr=0.5, total_steps=10)
    assert trainer.optimizer.param_groups[0]["initial_lr"] < 0.1
    assert configured(trainer, monkeypatch).search.learning_rate == 0.5


class Weighted(Trainer):
    """Draws the rows of one class more often."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return WeightedRandomSampler([0.1, 0.9] * 16, 32)


class Batched(Trainer):
    """Makes batches in a way of its own."""

    class Batches(BatchSampler):
        pass

    def get_train_dataloader(self) -> Any:
        rows: Any = self._remove_unused_columns(self.train_dataset)  # type: ignore[arg-type]
        batches = self.Batches(SequentialSampler(rows), 4, drop_last=False)
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)


@pytest.mark.parametrize(
    ("kind", "strategy", "told"),
    [
        (Trainer, "random", None), (Trainer, "sequential", None), (Trainer, "group_by_length", None),
        (Weighted, "random", "WeightedRandomSampler"), (Batched, "random", "Batches"),
    ],
)  # fmt: skip
def test_a_sampler_of_ones_own_is_told_of_as_the_search_does_not_use_it(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str],
    kind: type[Trainer], strategy: str, told: str | None,
) -> None:  # fmt: skip
    trainer = trainer_of(model_folder("bert"), tmp_path, kind, train_sampling_strategy=strategy)
    configured(trainer, monkeypatch)
    lines = [line for line in log_lines if line.startswith("WARNING trainer: ")]
    assert len(lines) == (told is not None)
    assert all(f"the search does not take the rows as {told} draws them" in line for line in lines)


def test_the_trainers_checkpoints_hold_no_loader_of_the_search(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate saves the state of every loader that it has prepared and still lists."""
    trainer = trainer_of(model_folder("bert"), tmp_path)
    configured(trainer, monkeypatch)
    assert trainer.accelerator._dataloaders == []
    own = trainer.get_train_dataloader()
    configured(trainer, monkeypatch)
    assert len(trainer.accelerator._dataloaders) == 1
    assert trainer.accelerator._dataloaders[0] is own


def test_the_search_checkpoints_if_the_trainer_will(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer switches it on in the model only when it trains, and whoever asks for ranks has not trained yet."""
    for asked in (False, True):
        trainer = trainer_of(model_folder("bert"), tmp_path, gradient_checkpointing=asked)
        assert configured(trainer, monkeypatch).model.gradient_checkpointing is asked


def test_a_trainer_whose_model_lies_on_two_devices_is_refused(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """As after loading with device_map="auto"; the trainer's own device would hide it."""
    trainer = trainer_of(model_folder("bert"), tmp_path)
    trainer.model.bert.pooler.to("meta")
    with pytest.raises(UserError, match=r"^model: its weights are on cpu, meta; allowed: one device for all"):
        learn_ranks_from_trainer(trainer, BERT)


def test_the_adapter_of_a_trainer_tells_where_lora_sits_and_stays_what_it_is(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(model_folder("bert")), deepcopy(BERT))
    trainer = trainer_of(model_folder("bert"), tmp_path, model=model)
    with left_as_it_was(trainer.model):
        learned = learn_ranks_from_trainer(trainer, search=SHORT)
    assert learned.record.k == 4
    assert set(learned.ranks) == set(lora_layers(model))
    with pytest.raises(UserError, match=r"^lora_config: None is allowed only for a trainer with a peft_config"):
        learn_ranks_from_trainer(trainer_of(model_folder("bert"), tmp_path))


class Halved(Trainer):
    """A trainer with a loss of its own, which takes the labels out of its inputs."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs.pop("labels")
        return torch.nn.functional.cross_entropy(model(**inputs).logits, labels) / 2


@pytest.mark.parametrize("change", ["subclass", "label_smoothing_factor"])
def test_a_loss_of_its_own_is_used_and_has_no_shares(
    model_folder: Callable[..., Path], tmp_path: Path, change: str
) -> None:
    kind = Halved if change == "subclass" else Trainer
    options = {} if change == "subclass" else {change: 0.2}
    trainer = trainer_of(model_folder("bert"), tmp_path, kind, **options)
    learned = learn_ranks_from_trainer(trainer, BERT, search=SHORT)
    assert (learned.shares, learned.curve) == (None, None)
    plain = learn_ranks_from_trainer(trainer_of(model_folder("bert"), tmp_path), BERT, search=SHORT)
    assert [layer.alpha for layer in learned.record.layers] != [layer.alpha for layer in plain.record.layers]
    with pytest.raises(UserError, match=r"^answer\.rule: shares is measured"):
        learn_ranks_from_trainer(trainer, BERT, answer=AnswerConfig(rule="shares"))


def test_rows_of_ones_own_to_choose_on(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    trainer = trainer_of(model_folder("bert"), tmp_path)
    learned = learn_ranks_from_trainer(
        trainer, BERT, search=SHORT, validation_dataset=trainer.train_dataset.select(range(12))
    )
    assert learned.record.evidence is not None
    assert learned.record.evidence.rows == 12


def test_a_trainer_without_rows_is_refused(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    trainer = trainer_of(model_folder("bert"), tmp_path)
    trainer.train_dataset = None
    with pytest.raises(UserError, match=r"^trainer: a trainer without train_dataset is not allowed"):
        learn_ranks_from_trainer(trainer, BERT)


def test_what_is_no_trainer_or_no_lora_config_is_refused(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    trainer = trainer_of(model_folder("bert"), tmp_path)
    with pytest.raises(UserError, match=r"^lora_config: dict is not allowed; allowed: a peft\.LoraConfig"):
        learn_ranks_from_trainer(trainer, {"r": 8})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^lora_config: dict is not allowed"):
        learn_ranks_from_trainer(trainer, {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^search: dict is not allowed; allowed: SearchConfig"):
        learn_ranks_from_trainer(trainer, BERT, search={"steps": 200})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^trainer: BertForSequenceClassification is not allowed; allowed: a transf"):
        learn_ranks_from_trainer(trainer.model, BERT)
