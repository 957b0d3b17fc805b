"""`learn_ranks_from_trainer`: rows, collator and loss of transformers' Trainer and of TRL's SFTTrainer."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from configs.schema import RunConfig
from engine.api import AnswerConfig, SearchConfig, UserError, learn_ranks, learn_ranks_from_trainer
from problems.models.attach import lora_layers
from tests.helpers.api import SHORT
from tests.helpers.chat_toys import chat_rows, save_chat_model
from tests.helpers.places import ROOT
from tests.helpers.untouched import left_as_it_was, seen

pytestmark = pytest.mark.trains

BERT = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"])
LLAMA = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])


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

    monkeypatch.setattr("engine.api.learning.find_ranks", find_ranks)
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


def sft_arguments(folder: Path, **changes: Any) -> Any:
    trl = pytest.importorskip("trl")
    plain = {"output_dir": str(folder / "out"), "report_to": [], "use_cpu": True, "bf16": False, "max_length": 64,
             "per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_steps": 2,
             "save_strategy": "no"}  # fmt: skip
    return trl.SFTConfig(**{**plain, **changes})


@pytest.mark.slow
def test_trl_trains_at_the_ranks_by_the_lines_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl = pytest.importorskip("trl")
    monkeypatch.setattr("engine.api.trainer.SearchConfig", lambda **given: SearchConfig(**{**vars(SHORT), **given}))
    base = save_chat_model(tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lines = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.S)[0]
    names: dict[str, Any] = {
        "model": model, "args": sft_arguments(tmp_path), "rows": Dataset.from_list(chat_rows()),
        "SFTTrainer": trl.SFTTrainer, "LoraConfig": LoraConfig,
    }  # fmt: skip
    exec(lines.replace("LoraConfig(r=8,", "LoraConfig(r=4,"), names)
    trainer, learned = names["trainer"], names["learned"]
    assert learned.shares is not None
    base_after = trainer.model.get_base_model().state_dict()
    for name, value in before.items():
        found = base_after.get(name, base_after.get(f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}"))
        assert found is not None
        assert torch.equal(found, value)
    trainer.train()
    kept = {name: rank for name, rank in learned.ranks.items() if rank}
    assert {name: layer.r["default"] for name, layer in lora_layers(trainer.model).items()} == kept


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_trl_trainer_with_an_adapter_is_left_as_it_was(tmp_path: Path, error: type[BaseException] | None) -> None:
    """It will checkpoint its blocks (the default), its forward is patched, its loss counts tokens."""
    trl = pytest.importorskip("trl")
    base = save_chat_model(tmp_path / "model")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base), args=sft_arguments(tmp_path),
        train_dataset=Dataset.from_list(chat_rows()), peft_config=deepcopy(LLAMA),
    )  # fmt: skip
    counted = deepcopy((trainer._metrics, trainer._total_train_tokens))
    before = seen(trainer.model)
    if error is None:
        learned = learn_ranks_from_trainer(trainer, search=SHORT)
        assert learned.shares is not None
        assert set(learned.ranks) == set(lora_layers(trainer.model))
    else:
        loss = trainer.compute_loss
        calls = iter(range(5))

        def broken(*given: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                raise error
            return loss(*given, **options)

        trainer.compute_loss = broken
        with pytest.raises(error):
            learn_ranks_from_trainer(trainer, search=SHORT)
    assert seen(trainer.model) == before
    assert (trainer._metrics, trainer._total_train_tokens) == counted
    trainer.compute_loss = type(trainer).compute_loss.__get__(trainer)
    trainer.train()


@pytest.mark.slow
def test_lora_on_the_output_layer_is_refused_with_trl(tmp_path: Path) -> None:
    """TRL's loss reads that layer's weight and passes by its LoRA, whose share would be 0."""
    trl = pytest.importorskip("trl")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(save_chat_model(tmp_path / "model")),
        args=sft_arguments(tmp_path), train_dataset=Dataset.from_list(chat_rows()),
    )  # fmt: skip
    for targets in (["q_proj", "lm_head"], r".*(q_proj|lm_head)"):
        with pytest.raises(UserError, match=r"^lora_config: target_modules: 'lm_head' is not allowed with TRL's"):
            learn_ranks_from_trainer(trainer, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets))


@pytest.mark.slow
def test_the_loss_of_trl_gives_the_search_of_the_models_own(tmp_path: Path) -> None:
    """TRL's loss is the mean over the labels, by another way than the model's."""
    trl = pytest.importorskip("trl")
    base = save_chat_model(tmp_path / "model")
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base), args=sft_arguments(tmp_path, gradient_checkpointing=False),
        train_dataset=Dataset.from_list(chat_rows()),
    )  # fmt: skip
    theirs = learn_ranks_from_trainer(trainer, LLAMA, search=SHORT)
    rows = trainer.get_train_dataloader().dataset
    own = learn_ranks(
        AutoModelForCausalLM.from_pretrained(base), rows, LLAMA, collate=trainer.data_collator, search=SHORT,
        seed=trainer.args.seed, precision="fp32",
    )  # fmt: skip
    for one, other in zip(theirs.record.layers, own.record.layers, strict=True):
        assert other.alpha == pytest.approx(one.alpha, abs=1e-3)
    assert theirs.record.evidence is not None
    assert own.record.evidence is not None
    assert theirs.record.evidence.loss == pytest.approx(own.record.evidence.loss, abs=1e-3)
