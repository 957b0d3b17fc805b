"""The tasks: tables, numbers, pairs, tagged words, conversations in four formats, texts to write,
GLUE's layout."""

import gzip
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from tests.contract.conftest import Chat, Tiny
from tests.contract.inputs import (
    E2E,
    conversations,
    labelled,
    lines,
    numbers,
    options,
    table,
    tagged,
)
from tests.contract.program import refused, succeed
from tests.contract.readers import batch_of, loaded, logits_of, predicted_by, read
from tests.helpers.generation_toys import e2e_rows, write_e2e


def test_a_table_of_numbers(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    """The adapter predicts in the file's own units."""
    given = options(
        task__type="text", task__kind="regression", task__path=numbers(tmp_path / "d.csv")
    )
    succeed(*tiny(*given, "--task.train_rows", "null", "--method", "lora"))
    assert {"pearson", "spearman"} <= set(read(folder / "metrics.json")["metrics"])
    rows = pd.read_csv(folder / "predictions.csv")
    found = logits_of(loaded(folder / "adapter"), batch_of(folder / "adapter", *rows["text"]))
    assert found.flatten().tolist() == pytest.approx(list(rows["predicted"]), rel=1e-4)
    assert 40 < found.mean() < 60


def test_two_texts_and_their_columns(tiny: Tiny, tmp_path: Path, folder: Path) -> None:
    rows = [
        {"one": f"the film was {x}", "two": f"our room was {y}", "same": "yes" if x == y else "no"}
        for x in ("dull", "clean", "noisy")
        for y in ("dull", "clean", "noisy")
        for _ in range(3)
    ]
    given = options(
        task__type="text",
        task__path=lines(tmp_path / "pairs.jsonl", rows),
        task__label_column="same",
    )
    succeed(
        *tiny(
            *given,
            "--task.text_columns",
            "[one,two]",
            "--task.train_rows",
            "null",
            "--method",
            "lora",
        )
    )
    model = loaded(folder / "adapter")
    assert set(model.config.label2id) == {"yes", "no"}
    assert predicted_by(model, folder)


@pytest.mark.parametrize(
    ("kind", "more"), [("bert", ("--measure.rows", "8")), ("gpt2", ("--method", "lora"))]
)
def test_tagged_words(
    tiny: Tiny, tmp_path: Path, folder: Path, kind: str, more: tuple[str, ...]
) -> None:
    succeed(*tiny(*tagged(tmp_path), *more, "--task.evaluation_rows", "null", kind=kind))
    result = read(folder / "metrics.json")
    assert {"f1", "precision", "recall"} <= set(result["metrics"])
    model = loaded(folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    for _, sentence in pd.read_csv(folder / "predictions.csv").groupby("sentence"):
        words = sentence["word"].tolist()
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        best = logits_of(model, dict(encoded))[0].argmax(-1).tolist()
        owners = encoded.word_ids(0)
        found = [model.config.id2label[best[owners.index(i)]] for i in range(len(words))]
        assert found == sentence["predicted"].tolist()


def test_conversations_give_a_language_model_with_samples(finished_chat: Path) -> None:
    result = read(finished_chat / "metrics.json")
    assert {"perplexity", "token_accuracy"} <= set(result["metrics"])
    samples = read(finished_chat / "samples.jsonl")
    assert len(samples) == 2
    assert all({"prompt", "answer", "reference"} <= set(sample) for sample in samples)
    written = read(finished_chat / "predictions.jsonl")[0]
    model = loaded(finished_chat / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(finished_chat / "adapter")
    ids = tokenizer.apply_chat_template(
        written["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    found = model.generate(**ids, max_new_tokens=8, do_sample=False)[
        0, ids["input_ids"].shape[1] :
    ].tolist()
    assert found == written["token_ids"]
    assert (finished_chat / "adapter_padded" / "adapter_config.json").exists(), (
        "a language model's padded form"
    )


def test_the_loss_of_a_conversation_is_that_of_its_answers(
    chat: Chat, tmp_path: Path, folder: Path
) -> None:
    """The oracle: plain PEFT, a row at a time, in float64."""
    held_out = lines(tmp_path / "dev.jsonl", conversations()[:5])
    succeed(*chat(task__validation_path=held_out, method="lora", retrain__learning_rate=3e-2))
    result = read(folder / "metrics.json")
    model = loaded(folder / "adapter").double()
    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    total = 0.0
    hits = 0
    count = 0
    for row in read(held_out):
        asked = tokenizer.apply_chat_template(
            row["messages"][:1], add_generation_prompt=True, tokenize=False
        )
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        start = len(tokenizer(asked)["input_ids"])
        ids = torch.tensor(tokenizer(whole)["input_ids"])
        logs = logits_of(model, {"input_ids": ids[None]})[0].log_softmax(-1)[start - 1 : -1]
        total -= float(logs.gather(1, ids[start:, None]).sum())
        hits += int((logs.argmax(-1) == ids[start:]).sum())
        count += len(ids) - start
    assert result["loss"] == pytest.approx(total / count, rel=1e-5)
    found = {"perplexity": math.exp(total / count), "token_accuracy": hits / count}
    assert result["metrics"] == pytest.approx(found, rel=1e-4)


Said = dict[str, str]
FORMS: dict[str, Callable[[Said, Said], dict[str, object]]] = {
    "prompt": lambda user, assistant: {"prompt": [user], "completion": [assistant]},
    "sharegpt": lambda user, assistant: {
        "conversations": [
            {"from": "human", "value": user["content"]},
            {"from": "gpt", "value": assistant["content"]},
        ]
    },
    "alpaca": lambda user, assistant: {
        "instruction": user["content"],
        "input": "",
        "output": assistant["content"],
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_four_formats_are_one_task(
    finished_chat: Path, chat: Chat, tmp_path: Path, folder: Path, form: str
) -> None:
    """The first format is `finished_chat`'s."""
    data = lines(
        tmp_path / "others.jsonl", [FORMS[form](*row["messages"]) for row in conversations()]
    )
    succeed(
        *chat(
            task__path=data,
            method="lora",
            retrain__max_steps=1,
            task__samples=0,
            export__padded="false",
        )
    )
    ours, first = (read(place / "retrain" / "manifest.json") for place in (folder, finished_chat))
    assert ours["inputs"]["training rows"] == first["inputs"]["training rows"]


def pairs(place: Path) -> Path:
    """A table of one's own."""
    rows = [
        {"source": row["meaning_representation"], "target": row["human_reference"]}
        for row in e2e_rows()
    ]
    return lines(place / "pairs.jsonl", rows)


def webnlg(place: Path) -> Path:
    """A folder in WebNLG's layout, with two inputs held out."""
    pytest.importorskip("text_unidecode")
    data = place / "webnlg"
    data.mkdir()
    for name, cities in (
        ("train", ("Oslo", "Aarhus", "Bergen", "Rome", "Ghent")),
        ("validation", ("Bonn", "Kyiv")),
    ):
        rows = [
            {
                "category": "City",
                "modifiedtripleset": [f"{city} | leaderName | Jacob"],
                "lexs": [{"lex": f"{city} is led by Jacob.", "comment": "good"}],
            }
            for city in cities
        ]
        lines(data / f"{name}.jsonl", rows)
    return data


@pytest.mark.parametrize(
    ("form", "make", "metrics", "count"),
    [
        ("pairs", pairs, "bleu", None),
        ("e2e", write_e2e, "bleu,nist", 4),
        ("webnlg", webnlg, "bleu", 2),
    ],
)
def test_texts_are_written_and_scored(
    chat: Chat,
    tmp_path: Path,
    folder: Path,
    form: str,
    make: Callable[[Path], Path],
    metrics: str,
    count: int | None,
) -> None:
    given = {
        "task__format": form,
        "task__metrics": f"[{metrics}]",
        "task__samples": None,
        "method": "lora",
    }
    more = {"task__decode__num_beams": 2 if form == "pairs" else 1, "retrain__max_steps": 1}
    succeed(*chat(task__path=make(tmp_path), **given, **more))
    assert {*metrics.split(",")} <= read(folder / "metrics.json")["metrics"].keys()
    predicted = (
        (folder / "predictions.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    )
    assert predicted[0] == " ".join(read(folder / "predictions.jsonl")[0]["text"].split())
    assert count in (None, len(predicted))


def test_the_gain_of_a_language_model_is_over_the_untouched_base(
    chat: Chat, tmp_path: Path, folder: Path
) -> None:
    succeed(*chat(**E2E, task__path=write_e2e(tmp_path), choose__rule="shares", stage="search"))
    record = read(folder / "ranks.json")
    assert record["without"] == "LoRA off"
    assert record["share_total"] == pytest.approx(record["gain"], rel=0.05, abs=2e-3)


def test_rows_of_one_input_are_on_one_side_of_the_split(
    tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    """Four copies of each text: the rows of D_val are whole inputs."""
    inputs = [
        ["the", "film", "was", a, b] for a in ("dull", "clean") for b in ("dull", "noisy", "clean")
    ]
    rows = labelled(
        tmp_path / "d.csv",
        ((x, ("good", "bad")[i % 2]) for i, x in enumerate(inputs) for _ in range(4)),
    )
    given = options(
        task__type="text", task__path=rows, task__train_rows="null", task__evaluation_rows="null"
    )
    succeed(
        *tiny(*given, "--measure.rows", "1000", "--stage", "search", "--task.holdout_share", "0.1")
    )
    record = read(folder / "ranks.json")
    assert record["rows"] == 4 * record["sources"]


def test_copies_of_evaluation_rows_leave_the_error_of_an_accuracy(
    tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    """Rows of one input are one draw."""
    train = table(tmp_path / "train.csv")
    single = table(tmp_path / "single.csv", rows=8, seed=1)
    header, *rows = single.read_text().splitlines(keepends=True)
    copies = tmp_path / "copies.csv"
    copies.write_text("".join([header, *rows * 3]))
    results = []
    for name, held_out in (("single", single), ("copies", copies)):
        task = options(task__type="text", task__path=train, task__validation_path=held_out)
        short = options(name=name, method="head", retrain__max_steps=1, task__train_rows="null")
        succeed(*tiny(*task, *short))
        results.append(read(folder.with_name(name) / "metrics.json"))
    assert [result["evaluated_rows"] for result in results] == [8, 24]
    one, other = ((result["metrics"]["accuracy"], result["standard_error"]) for result in results)
    assert other == pytest.approx(one)


def on_the_hub(
    monkeypatch: pytest.MonkeyPatch, home: Path, name: str, configuration: str, folder: Path
) -> None:
    """The rows of a folder as a data set of the hub, which a home without a network holds."""
    datasets.load_dataset(str(folder), cache_dir=str(home / "made"))
    prepared = next((home / "made").rglob("dataset_info.json")).parent
    shutil.copytree(
        prepared, home / name.replace("/", "___") / configuration / "0.0.0" / ("0" * 40)
    )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_mnli_is_evaluated_matched_and_mismatched_apart(
    tiny: Tiny, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glue").mkdir()
    head = "---\nconfigs:\n- config_name: mnli\n  data_files:\n"
    for split, count in (("train", 24), ("validation_matched", 6), ("validation_mismatched", 9)):
        words = [("dull", "clean", "noisy")[i % 3] for i in range(count)]
        rows = [
            (f"the film is {word}", f"our room {i} was {word}", i % 3)
            for i, word in enumerate(words)
        ]
        columns = ["premise", "hypothesis", "label"]
        pd.DataFrame(rows, columns=columns).to_parquet(tmp_path / "glue" / f"{split}.parquet")
        head += f"  - split: {split}\n    path: {split}.parquet\n"
    (tmp_path / "glue" / "README.md").write_text(f"{head}---\n")
    on_the_hub(monkeypatch, tmp_path / "home", "nyu-mll/glue", "mnli", tmp_path / "glue")
    succeed(*with_config("glue_mnli.yaml", tiny()))
    result = read(folder / "metrics.json")
    assert {"accuracy", "accuracy_matched", "accuracy_mismatched"} == set(result["metrics"])
    splits = pd.read_csv(folder / "predictions.csv")["split"].value_counts()
    assert dict(splits) == {"validation_mismatched": 9, "validation_matched": 6}


def with_config(name: str, argv: list[str]) -> list[str]:
    """A tiny LoRA training by a shipped file, but for the model and the steps."""
    own = read(Path(argv[1]))
    small = {
        "runs_folder": own["runs_folder"],
        "name": own["name"],
        "model.name": own["model.name"],
    }
    short = {
        "method": "lora",
        "retrain.max_steps": 2,
        "device": "cpu",
        "tracking.wandb": "disabled",
    }
    return ["--config", name, *options(**small, **short), *argv[2:]]


def test_one_table_gives_one_result_from_every_place(
    tiny: Tiny, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file, packed, as a folder, and from the hub."""
    file = table(tmp_path / "table" / "train.csv")
    with gzip.open(tmp_path / "train.csv.gz", "wb") as packed:
        packed.write(file.read_bytes())
    on_the_hub(monkeypatch, tmp_path / "home", "nobody/table", "default", file.parent)
    found = []
    for number, path in enumerate((file, tmp_path / "train.csv.gz", file.parent, "nobody/table")):
        given = options(task__path=path, task__train_rows="null", name=f"n{number}", method="lora")
        succeed(*tiny(*given, "--retrain.max_steps", "1"))
        found.append(read(folder.with_name(f"n{number}") / "metrics.json")["loss"])
    assert len(set(found)) == 1


def test_own_rows_with_the_settings_of_glue_have_their_own_name(
    tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    """`--config glue_sst2.yaml --task.path FILE`: nothing that the run writes names SST-2."""
    given = tiny("--task.path", table(tmp_path / "reviews.csv"))
    succeed(*with_config("glue_sst2.yaml", given))
    for name in (
        "config.yaml",
        "report.html",
        "adapter/README.md",
        "metrics.json",
        "adapter/adapter_config.json",
    ):
        text = (folder / name).read_text(encoding="utf-8").lower()
        assert not re.search(r"sst-?2|glue", text), name
    assert read(folder / "metrics.json")["task"] == "reviews"


def test_metrics_without_java_are_told_with_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the base model is looked for, which is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    data = write_e2e(tmp_path / "data")
    runs = tmp_path / "runs"
    given = ("--task.path", data, "--model.name", tmp_path / "absent", "--runs_folder", runs)
    line = refused("--config", "e2e_gpt2.yaml", *given)
    assert "METEOR" in line
    assert "Java" in line
    assert not runs.exists()
