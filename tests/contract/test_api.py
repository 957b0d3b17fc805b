"""`learn_ranks` and `learn_ranks_from_trainer`: the ranks of the command line, and a model left as
it was."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from autolora import UserError, learn_ranks, learn_ranks_from_trainer
from tests.contract.conftest import Models, Tiny
from tests.contract.inputs import conversations, options, own_table
from tests.contract.program import succeed
from tests.contract.readers import ranks_in, ranks_of, read
from tests.helpers.untouched import left_as_it_was

SHORT = {
    "steps": 6,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "selection_learning_rate": 5e-2,
    "log_every": 2,
}
LORA = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"])
Loss = Callable[[Any, dict[str, Tensor]], Tensor]


def classifier(folder: Path, num_labels: int = 2) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels)


def rows(count: int = 32) -> list[dict[str, Any]]:
    """Sentences of random words with two classes."""
    draw = random.Random(0)
    return [
        {"input_ids": [1, *draw.choices(range(4, 60), k=5 + i % 3), 2], "labels": i % 2}
        for i in range(count)
    ]


def padded(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The examples as one batch."""
    ids = pad_sequence(
        [torch.tensor(example["input_ids"]) for example in examples], batch_first=True
    )
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def learn(model: Any, given: Any = None, config: LoraConfig = LORA, **more: Any) -> Any:
    usual = {"collate": padded, "search": SHORT, "precision": "fp32"}
    return learn_ranks(model, given or rows(), config, **{**usual, **more})


def state() -> list[Any]:
    """All random numbers that come next."""
    of_numpy: Any = np.random.get_state()
    return [random.getstate(), of_numpy[1].tolist(), torch.get_rng_state().tolist()]


def trained(folder: Path) -> Any:
    """As a script may have it: in training, with gradients, a frozen layer and a hook."""
    model = classifier(folder).train()
    model(**padded(rows(4))).loss.backward()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].register_forward_hook(lambda module, inputs, output: output)
    return model


def checkpointed(folder: Path) -> Any:
    """With its blocks computed again, in bf16, in evaluation mode."""
    model = classifier(folder).to(torch.bfloat16).eval()
    model.gradient_checkpointing_enable()
    return model


def adapted(folder: Path) -> Any:
    """With an adapter of its own."""
    return get_peft_model(
        classifier(folder), LoraConfig(**{**LORA.to_dict(), "r": 2, "modules_to_save": ["pooler"]})
    )


class Stop(Exception):
    """Comes from inside a search."""


def failing(after: int) -> Loss:
    """A loss that raises once it was called so many times."""
    calls = iter(range(after))

    def loss(model: Any, batch: dict[str, Tensor]) -> Any:
        if next(calls, None) is None:
            raise Stop
        return model(**batch).loss

    return loss


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("make", [trained, checkpointed, adapted])
def test_model_and_random_numbers_are_left_as_they_were_and_nothing_is_written(
    model_folder: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Any],
    fails: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make(model_folder("bert"))
    before = state()
    with left_as_it_was(model):
        if fails:
            with pytest.raises(Stop):
                learn(model, loss=failing(7))
        else:
            assert learn(model).ranks
    assert state() == before
    assert list(tmp_path.iterdir()) == []


def test_the_result_is_a_lora_config_at_the_learned_ranks(
    model_folder: Models, tmp_path: Path
) -> None:
    model = classifier(model_folder("bert"))
    learned = learn(model)
    peft: Any = get_peft_model(model, learned.lora_config)
    assert ranks_in(peft.state_dict()) == {
        name: rank for name, rank in learned.ranks.items() if rank
    }
    assert learned.shares is not None
    learned.save(tmp_path / "learned")
    record = read(tmp_path / "learned" / "ranks.json")
    assert ranks_of(tmp_path / "learned") == learned.ranks
    assert record["share_total"] + record["head_share"] == pytest.approx(
        record["fall"], rel=0.05, abs=1e-4
    )


def close(one: Any, other: Any) -> bool:
    """Whether values of JSON are equal, but for a rounding that the lowest version of torch
    makes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(
        one == (pytest.approx(other, rel=1e-4, abs=1e-6) if isinstance(other, float) else other)
    )


def test_the_ranks_are_those_of_the_command_line(
    tiny: Tiny, model_folder: Models, tmp_path: Path, folder: Path
) -> None:
    """On the same table, with the head in the model's folder."""
    base = tmp_path / "model"
    model = classifier(model_folder("bert"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder("bert"))
    for part in (model, tokenizer):
        part.save_pretrained(base)
    more = options(
        model__name=base, choose__rule="shares", measure__rows=1000, search__scheduler="constant"
    )
    succeed(
        *tiny(*own_table(tmp_path, rows=40), *more, "--stage", "search", "--search.steps", "10")
    )
    table = pd.read_csv(tmp_path / "train.csv").itertuples(index=False)
    given = [{**tokenizer(row.text), "labels": int(row.label == "good")} for row in table]
    search = {**SHORT, "steps": 10, "unroll_steps": 1}
    settings = {"measure": {"rows": 1000}, "choose": {"rule": "shares"}}
    learn(model, given, search=search, **settings, hypergradient={"type": "darts"}).save(
        tmp_path / "learned"
    )
    one = read(folder / "ranks.json")
    other = read(tmp_path / "learned" / "ranks.json")
    for key in (
        "layers",
        "gain",
        "loss",
        "share_total",
        "sufficient_rank",
        "rank_curve",
        "lora_alpha",
        "scale",
    ):
        assert close(other[key], one[key]), key


def trainer_of(folder: Path, out: Path) -> Trainer:
    """A trainer of the tiny BERT, on rows with a column that the model does not read."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["this film is good", "a bad plot", "the cast was great and warm", "dull"] * 8
    data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 8, "text": texts})
    args = TrainingArguments(
        str(out),
        report_to=[],
        use_cpu=True,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        seed=5,
        max_steps=2,
    )
    collator = DataCollatorWithPadding(tokenizer)
    return Trainer(model=classifier(folder), args=args, train_dataset=data, data_collator=collator)


def test_a_trainer_gives_rows_collator_seed_and_trains_as_if_not_asked(
    model_folder: Models, tmp_path: Path
) -> None:
    trainer, other = (trainer_of(model_folder("bert"), tmp_path) for _ in range(2))
    before = state()
    with left_as_it_was(trainer.model):
        learned = learn_ranks_from_trainer(trainer, LORA, search=SHORT)
    assert state() == before
    data = trainer.train_dataset.remove_columns(["text"])
    by_hand = learn_ranks(
        trainer.model,
        data,
        LORA,
        collate=trainer.data_collator,
        search=SHORT,
        seed=5,
        precision="fp32",
    )
    assert learned.ranks == by_hand.ranks
    assert learned.shares == by_hand.shares
    for one in (trainer, other):
        torch.manual_seed(7)
        one.train()
    assert all(
        map(torch.equal, trainer.model.state_dict().values(), other.model.state_dict().values())
    )


def test_without_search_a_step_has_the_rows_of_the_trainers_own_steps(
    model_folder: Models, tmp_path: Path
) -> None:
    """Two batches of four: so many rows have a loss between two changes of the weights. (The first
    outer step comes later.)"""
    trainer = trainer_of(model_folder("bert"), tmp_path)
    original: Any = trainer.compute_loss
    rows_at = Counter[float]()

    def compute_loss(model: Any, batch: dict[str, Tensor], *more: Any, **options: Any) -> Any:
        factors = [p.detach() for name, p in model.named_parameters() if "lora_B" in name]
        weights = sum(float(factor.abs().sum()) for factor in factors)
        rows_at[weights] += len(batch["labels"])
        if len(rows_at) == 3:
            raise Stop
        return original(model, batch, *more, **options)

    trainer.compute_loss = compute_loss
    with pytest.raises(Stop):
        learn_ranks_from_trainer(trainer, LORA)
    _, of_a_step, _ = rows_at.values()  # with the first weights the model is tried, too
    assert of_a_step == 8


def test_a_language_model_in_a_trl_trainer(chat_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    args = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        max_length=64,
    )
    model = AutoModelForCausalLM.from_pretrained(chat_model)
    data = Dataset.from_list(conversations())
    trainer = trl.SFTTrainer(model=model, args=args, train_dataset=data)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    with left_as_it_was(trainer.model):
        learned = learn_ranks_from_trainer(trainer, config, search=SHORT)
    assert learned.shares is not None
    assert set(learned.lora_config.target_modules) <= {
        name for name, _ in trainer.model.named_modules()
    }


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain": functional.cross_entropy,
    "of a rare class": lambda x, labels: functional.cross_entropy(
        x.float(), labels, weight=torch.tensor([1.0, 4.0])
    ),
    "and a five-hundredth": lambda x, labels: functional.cross_entropy(x, labels) * 1.002,
    "squared": lambda x, numbers: functional.mse_loss(x.view(-1), numbers),
    "robust": lambda x, numbers: functional.smooth_l1_loss(x.view(-1), numbers),
}


def of_logits(kind: str) -> Loss:
    """The loss as a script gives it."""
    return lambda model, batch: LOSSES[kind](
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits,
        batch["labels"],
    )


@pytest.mark.parametrize(
    ("loss", "dtype", "measured"),
    [
        ("plain", torch.bfloat16, True),
        ("of a rare class", torch.bfloat16, False),
        ("and a five-hundredth", torch.float32, False),
    ],
)
def test_a_loss_other_than_the_log_loss_gives_ranks_by_size_and_a_warning(
    model_folder: Models, log_lines: list[str], loss: str, dtype: torch.dtype, measured: bool
) -> None:
    """Also where the first rows have one class, in which class weights cancel."""
    given = sorted(rows(96), key=lambda row: row["labels"])
    learned = learn(
        classifier(model_folder("bert")).to(dtype), given, loss=of_logits(loss), precision="auto"
    )
    assert (learned.shares is not None) == measured
    assert ("the loss of 64 rows is" in "\n".join(log_lines)) == (not measured)
    assert learned.record.rule == ("shares" if measured else "size")
    assert measured or sum(learned.ranks.values()) == 4 * 2, "half of k in every layer"


@pytest.mark.parametrize(("loss", "measured"), [("squared", True), ("robust", False)])
def test_a_regression_is_compared_by_its_squared_error(
    model_folder: Models, loss: str, measured: bool
) -> None:
    given = [
        {**row, "labels": row["labels"] + 0.5 + number / 9} for number, row in enumerate(rows())
    ]
    learned = learn(classifier(model_folder("bert"), num_labels=1), given, loss=of_logits(loss))
    assert (learned.shares is not None) == measured


def test_validation_rows_are_never_mixed_with_train_rows(model_folder: Models) -> None:
    """The train rows have class 0 alone, the validation rows class 1."""
    classes: list[set[int]] = []

    def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
        classes.append(set(batch["labels"].tolist()))
        return of_logits("plain")(model, batch)

    of_class = [[row for row in rows(48) if row["labels"] == label] for label in (0, 1)]
    settings = {"measure": {"rows": 0}, "choose": {"rule": "threshold"}}
    model = classifier(model_folder("bert"))
    learned = learn(model, of_class[0], validation_dataset=of_class[1], loss=loss, **settings)
    assert learned.record.rule == "threshold"
    assert {0} in classes
    assert {1} in classes
    assert {0, 1} not in classes[:-1], "the last one compares the loss with the log loss"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": LoraConfig(task_type="SEQ_CLS", target_modules=["nosuch"])}, "nosuch"),
        ({"config": LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=99)}, "99"),
        ({"given": rows(1)}, "1"),
        ({"precision": "fp16"}, "precision"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    model_folder: Models, change: dict[str, Any], named: str
) -> None:
    model = classifier(model_folder("bert"))
    with left_as_it_was(model), pytest.raises(UserError) as caught:
        learn(model, **change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
