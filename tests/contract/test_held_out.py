"""Which rows an adapter is measured on, and which class a label is: by the command line and in a
script."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from autolora import UserError, measure_adapter
from tests.contract.adapters import batches_of, reviews
from tests.contract.conftest import Models
from tests.contract.inputs import lines
from tests.contract.program import refused, succeed
from tests.contract.readers import base_of, loaded, read
from tests.helpers.untouched import left_as_it_was


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder with splits: the test split has no labels, as GLUE's."""
    folder = tmp_path / "data"
    reviews(folder / "train.csv", 96, seed=0)
    reviews(folder / "validation.csv", 40, seed=1)
    rows = pd.read_csv(reviews(folder / "test.csv", 32, seed=2))
    rows.assign(label=-1).to_csv(folder / "test.csv", index=False)
    return folder


def measured(adapter: Path, data: Path, out: Path, *words: object) -> dict[str, Any]:
    """measure.json."""
    succeed("measure", adapter, "--data", data, "--out", out, "--precision", "fp32", *words)
    return dict(read(out / "measure.json"))


def test_a_data_set_is_measured_on_validation_and_on_train_only_by_name(
    trained: Path, splits: Path, tmp_path: Path
) -> None:
    words = ("measure", trained, "--data", splits, "--out", tmp_path / "m")
    said = succeed(*words, "--precision", "fp32")
    told = f"rows: split validation of {splits}, 40 rows, 40 distinct inputs; classes 0 bad, 1 good"
    assert said.index(told) < said.index("LoRA lowers")
    assert read(tmp_path / "m" / "measure.json")["note"].startswith(told)
    assert "split validation of" in (tmp_path / "m" / "report.html").read_text()

    assert measured(trained, splits, tmp_path / "t", "--split", "train")["rows"] == 96
    some = measured(trained, splits, tmp_path / "s", "--split", "validation[:24]", "--rows", 16)
    assert some["rows"] == 16
    assert "split validation[:24] of" in some["note"]
    assert "16 of 24 rows" in some["note"]
    line = refused(*words, "--split", "test")
    assert "the split test of" in line
    assert "with labels: train, validation" in line
    assert "valid" in refused(*words, "--split", "dev")
    assert "--split" in refused(*words, "--task.train_split", "train")
    (splits / "validation.csv").unlink()
    assert "the split test of" in refused(*words), "the test split comes next, never train"


def test_splits_of_other_names_are_asked_for(trained: Path, splits: Path, tmp_path: Path) -> None:
    files = '{old: "train.csv", new: "validation.csv"}'
    words = ("measure", trained, "--data", splits, "--task.data_files", files)
    line = refused(*words, "--out", tmp_path / "m")
    assert "the splits old, new" in line
    assert "--split" in line
    found = measured(trained, splits, tmp_path / "m", *words[4:], "--split", "new+old")
    assert found["rows"] == 136
    one = '{old: "train.csv"}'
    assert measured(trained, splits, tmp_path / "m", words[4], one)["rows"] == 96


def test_the_inputs_that_chose_a_cut_are_counted_among_those_of_its_test(
    trained: Path, splits: Path, tmp_path: Path
) -> None:
    test = tmp_path / "test.csv"
    rows = [pd.read_csv(splits / f"{name}.csv") for name in ("validation", "train")]
    pd.concat([rows[0][:5], rows[0][:1], rows[1][:20]]).to_csv(test, index=False)
    given = ("--data", splits, "--test", test, "--rank", 1, "--measured", tmp_path / "m")
    said = succeed("cut", trained, tmp_path / "out", *given)
    assert "  5 of its 25 inputs are among those that chose the cut" in said
    page = (tmp_path / "m" / "report.html").read_text()
    assert "5 of its 25 inputs" in page
    assert "25 of its 25 inputs" not in page
    folder = tmp_path / "splits"  # whose train split is the first
    shutil.copytree(splits, folder)
    shutil.copyfile(test, folder / "test.csv")
    again = ("--data", splits, "--test", folder, "--rank", 1, "--measured", tmp_path / "m")
    assert "  5 of its 25 inputs" in succeed("cut", trained, tmp_path / "out", *again)


def test_classes_are_numbered_as_the_adapter_s_or_the_base_s_configuration_says(
    model_folder: Models, trained: Path, held_out: Path, tmp_path: Path
) -> None:
    """The adapter was trained with 0 for bad. Whoever says otherwise of it is believed, as plain
    PEFT would."""
    adapter = shutil.copytree(trained, tmp_path / "adapter")
    base = tmp_path / "base"
    gains: dict[str, float] = {}
    for order in ("good bad", "bad good"):
        model = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"))
        model.config.id2label = dict(enumerate(order.split()))
        model.save_pretrained(base)
        AutoTokenizer.from_pretrained(model_folder("bert")).save_pretrained(base)
        found = measured(adapter, held_out, tmp_path / f"m {order}", "--base", base)
        gains[order] = found["gain"]
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(order.split()))
        assert f"classes {numbered}, by the base model" in found["note"]
    assert gains["bad good"] > 0 > gains["good bad"]

    model.config.id2label = {0: "GOOD", 1: "Bad"}
    model.config.save_pretrained(adapter)
    found = measured(adapter, held_out, tmp_path / "m bad good", "--base", base)
    assert "classes 0 GOOD, 1 Bad, by the adapter's config.json" in found["note"]
    assert found["gain"] == pytest.approx(gains["good bad"]), "measured anew"
    words = ("--data", held_out, "--base", base, "--measured", tmp_path / "m bad good")
    succeed("cut", adapter, tmp_path / "cut", *words, "--rank", 1)
    assert read(tmp_path / "cut" / "config.json")["id2label"] == {"0": "GOOD", "1": "Bad"}

    rows = pd.read_csv(held_out)
    counted = tmp_path / "counted.csv"
    rows.assign(label=[int(label == "good") for label in rows["label"]]).to_csv(counted)
    found = measured(adapter, counted, tmp_path / "counted", "--base", base)
    assert found["gain"] == pytest.approx(gains["bad good"]), "labels may be the numbers"
    for labels in (["poor", "good"], ["1", "2"]):
        other = tmp_path / "other.csv"
        rows.assign(label=[labels[x == "good"] for x in rows["label"]]).to_csv(other)
        line = refused("measure", adapter, "--data", other, "--base", base)
        assert f"label {min(labels, key=lambda x: x.lower() == 'good')!r}" in line
        assert "GOOD, Bad" in line


def test_a_head_without_names_needs_as_many_classes_or_their_numbers(
    model_folder: Models, held_out: Path, tmp_path: Path
) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=3)
    model: Any = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    model.save_pretrained(tmp_path / "adapter")
    line = refused("measure", tmp_path / "adapter", "--data", held_out)
    assert "bad, good, and the head has 3 without names" in line
    rows = pd.read_csv(held_out)
    rows.assign(label=[int(label == "good") for label in rows["label"]]).to_csv(tmp_path / "d.csv")
    found = measured(tmp_path / "adapter", tmp_path / "d.csv", tmp_path / "m")
    assert "classes 0 0, 1 1, 2 2, by the rows" in found["note"]


def test_a_head_that_nobody_saved_is_refused(
    model_folder: Models, held_out: Path, tmp_path: Path
) -> None:
    """It would be drawn anew whenever the adapter is loaded."""
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)
    model: Any = get_peft_model(base, LoraConfig(target_modules=["query", "classifier"]))
    model.save_pretrained(tmp_path / "adapter")
    words = ("measure", tmp_path / "adapter", "--data", held_out, "--task.type", "text")
    assert "the weights of classifier" in refused(*words)
    assert "0 rows are too few" in refused(*words, "--rows", 0)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    assert "adapter: cannot load" in refused(*words).lower()


def trainer_of(model: Any, folder: Path, **given: Any) -> Trainer:
    args = TrainingArguments(str(folder), report_to=[], use_cpu=True, bf16=False)
    return Trainer(model=model, args=args, **given)


def test_a_trainer_is_measured_on_its_evaluation_sets_and_never_on_its_training_rows(
    trained: Path, splits: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_of(trained))

    def encoded(name: str) -> Dataset:
        rows = pd.read_csv(splits / f"{name}.csv")
        labels = [int(label == "good") for label in rows["label"]]
        return Dataset.from_dict({**tokenizer(list(rows["text"])), "labels": labels})

    model = loaded(trained)
    known = {
        "train_dataset": encoded("train"),
        "data_collator": DataCollatorWithPadding(tokenizer),
    }
    with pytest.raises(UserError, match="no eval_dataset"):
        measure_adapter(trainer_of(model, tmp_path, **known))
    both = {"matched": encoded("validation"), "other": encoded("test")}
    trainer = trainer_of(model, tmp_path, **known, eval_dataset=both)
    with left_as_it_was(model):
        found = measure_adapter(trainer)
    assert found.evidence.rows == 72
    assert str(found).startswith("rows: eval_dataset (matched 40, other 32), 72 rows")
    one = measure_adapter(trainer, split="matched")
    assert one.evidence.rows == 40
    assert "eval_dataset (matched 40)" in str(one)
    with pytest.raises(UserError, match="there are: matched, other"):
        measure_adapter(trainer, split="dev")
    single = measure_adapter(trainer_of(model, tmp_path, **known, eval_dataset=both["matched"]))
    assert single.evidence == one.evidence


def random_adapter(base: Any, **settings: Any) -> Any:
    """A PeftModel whose LoRA does something."""
    model: Any = get_peft_model(base, LoraConfig(target_modules=["query", "value"], **settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=5)
            elif "classifier" in name:
                weight.mul_(20)
    return model.eval()


def test_several_labels_or_numbers_of_a_row_have_the_loss_that_the_model_gives(
    model_folder: Models, held_out: Path
) -> None:
    """With 30 rows of 3 labels; by a temperature of 1 the log loss is the model's own."""
    for problem in ("multi_label_classification", None, "regression"):
        base = AutoModelForSequenceClassification.from_pretrained(
            model_folder("bert"), num_labels=3, problem_type=problem
        )
        model = random_adapter(base, task_type="SEQ_CLS")
        batches = batches_of(held_out, model_folder("bert"))
        torch.manual_seed(0)
        for batch in batches:
            batch["labels"] = torch.randint(2, (len(batch["labels"]), 3)).float()
        with left_as_it_was(model), left_as_it_was(model.get_base_model()):
            evidence = measure_adapter(model, batches).evidence
        fall = model_fall(model, batches)
        if problem == "regression":  # at the errors' variance
            assert evidence.fall == pytest.approx(fall / (2 * evidence.temperature), rel=1e-3)
        elif evidence.temperature == 1:
            assert evidence.fall == pytest.approx(fall, rel=1e-3)
        assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.02)


def test_labels_of_a_row_are_not_cut_with_its_padding(model_folder: Models, held_out: Path) -> None:
    """As many labels as tokens in a padded row."""
    base = AutoModelForSequenceClassification.from_pretrained(
        model_folder("bert"), num_labels=8, problem_type="multi_label_classification"
    )
    model = random_adapter(base, task_type="SEQ_CLS")
    batches = batches_of(held_out, model_folder("bert"))
    torch.manual_seed(0)
    for batch in batches:
        assert batch["input_ids"].shape[1] == 8
        batch["attention_mask"][::2, 5:] = 0
        batch["labels"] = torch.randint(2, (len(batch["labels"]), 8)).float()
    longer = [
        {
            name: v if name == "labels" else torch.nn.functional.pad(v, (0, 1))
            for name, v in b.items()
        }
        for b in batches
    ]
    one, other = (measure_adapter(model, each).evidence for each in (batches, longer))
    assert other.loss == pytest.approx(one.loss)
    assert other.gain == pytest.approx(one.gain)


@torch.no_grad()
def model_fall(model: Any, batches: list[dict[str, Tensor]]) -> float:
    """By how much LoRA lowers the mean of the model's own loss."""
    count = sum(len(batch["labels"]) for batch in batches)

    def loss() -> float:
        return sum(float(model(**batch).loss) * len(batch["labels"]) for batch in batches) / count

    with model.disable_adapter():
        off = loss()
    return off - loss()


def test_a_model_inside_another_is_measured(trained: Path, held_out: Path) -> None:
    model = loaded(trained)
    batches = batches_of(held_out, base_of(trained))
    expected = measure_adapter(model, batches).evidence
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model)):
        assert measure_adapter(wrapped, batches).evidence == expected


def doubled(module: Any, inputs: Any, output: Any) -> Any:
    """A hook that gives the loss another weight."""
    if output.loss is not None:
        output.loss = 2 * output.loss
    return output


def test_what_cannot_be_measured_is_refused_in_one_line(
    model_folder: Models, trained: Path, held_out: Path
) -> None:
    batches = batches_of(held_out, base_of(trained))

    def line(model: Any, given: Any = batches) -> str:
        with pytest.raises(UserError) as caught:
            measure_adapter(model, given)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    without = [{name: batch[name] for name in batch if name != "labels"} for batch in batches]
    assert "a batch has no labels" in line(loaded(trained), without)
    images = [batch | {"pixel_values": torch.zeros(3, 4)} for batch in batches]
    assert "pixel_values has 3 rows" in line(loaded(trained), images)
    merged = loaded(trained)
    merged.merge_adapter()
    assert "unmerge_adapter" in line(merged)
    disabled = loaded(trained)
    disabled.base_model.disable_adapter_layers()
    assert "enable_adapter_layers" in line(disabled)
    weighted = loaded(trained)
    weighted.base_model.model.register_forward_hook(doubled)
    assert "loss of 16 rows is" in line(weighted)
    settings = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    bart = BartForConditionalGeneration(BartConfig(**settings, **heads))
    translating = get_peft_model(
        bart, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q_proj"])
    )
    ids = torch.ones(8, 5, dtype=torch.long)
    texts = [{"input_ids": ids, "attention_mask": ids, "labels": ids}]
    assert "SEQ_2_SEQ_LM" in line(translating, texts)


def test_tags_are_numbered_as_the_base_says(model_folder: Models, tmp_path: Path) -> None:
    """A tagger that was trained elsewhere, whose numbers are not in the order of the names."""
    from transformers import AutoModelForTokenClassification

    names = {0: "B-thing", 1: "O"}
    base = AutoModelForTokenClassification.from_pretrained(model_folder("bert"), id2label=names)
    base.save_pretrained(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(model_folder("bert"))
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoModelForTokenClassification.from_pretrained(tmp_path / "base")
    model = random_adapter(base, task_type="TOKEN_CLS")
    model.save_pretrained(tmp_path / "adapter")
    words = ("film", "room", "soup", "was", "dull")
    rows = [{"tokens": [*words[n % 5 :], *words[: n % 3]], "tags": []} for n in range(24)]
    for row in rows:
        row["tags"] = ["B-thing" if word == "film" else "O" for word in row["tokens"]]
    found = measured(tmp_path / "adapter", lines(tmp_path / "d.jsonl", rows), tmp_path / "m")
    assert "classes 0 B-thing, 1 O, by the base model" in found["note"]
    plain = loaded(tmp_path / "adapter")
    number = {name: place for place, name in names.items()}
    batches = []
    for row in rows:
        batch = tokenizer([row["tokens"]], is_split_into_words=True, return_tensors="pt")
        owners = batch.word_ids()
        firsts = [owner is not None and owner not in owners[:at] for at, owner in enumerate(owners)]
        labels = [
            number[row["tags"][owner]] if first else -100
            for owner, first in zip(owners, firsts, strict=True)
        ]
        batches.append({**batch, "labels": torch.tensor([labels])})
    by_script = measure_adapter(plain, batches).evidence
    assert found["gain"] == pytest.approx(by_script.gain, abs=2e-3)
    assert found["loss"] == pytest.approx(by_script.loss, abs=2e-3)
