"""Prompts, labels and the loss of text generation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.schema import TaskConfig
from autolora.problems.tasks.data_to_text import E2E, WebNLG
from autolora.problems.tasks.prompts import PlainPrompt
from tests.helpers.generation_toys import make_causal, make_tokenizer

SOURCE, TARGET = "name : The Mill | area : riverside", "The Mill is a pub in the riverside."


def e2e(**changes: Any) -> E2E:
    return E2E(TaskConfig(type="generation", name="e2e", metrics=["bleu"], **changes))


def encoded(task: E2E, tokenizer: Any) -> dict[str, Any]:
    row: dict[str, Any] = task.encode(Dataset.from_dict({"source": [SOURCE], "target": [TARGET]}), tokenizer)[0]
    return row


@pytest.mark.parametrize("begin", ["<|endoftext|>", "<s>"])
def test_source_separator_answer_end_with_the_loss_on_the_answer(begin: str) -> None:
    tokenizer = make_tokenizer(begin)
    row = encoded(e2e(), tokenizer)
    assert tokenizer.decode(row["input_ids"]) == f"{SOURCE}{begin} {TARGET}<|endoftext|>"
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == f" {TARGET}<|endoftext|>"
    start = len(row["labels"]) - len(learned)
    assert row["labels"][start:] == row["input_ids"][start:]
    assert row["input_ids"][:start] == PlainPrompt(tokenizer).ids(SOURCE)
    assert row["length"] == len(row["input_ids"])


def test_what_is_too_long_loses_source_first_and_keeps_the_separator(log_lines: list[str]) -> None:
    tokenizer = make_tokenizer("<s>")
    answer = len(tokenizer(" " + TARGET)["input_ids"]) + 1
    row = encoded(e2e(max_length=answer + 4), tokenizer)
    assert len(row["input_ids"]) == answer + 4
    assert row["input_ids"][3] == tokenizer.bos_token_id
    assert row["labels"][4:] == row["input_ids"][4:]
    assert row["labels"][-1] == tokenizer.eos_token_id
    row = encoded(e2e(max_length=6), tokenizer)
    assert row["input_ids"] == [tokenizer.bos_token_id, *tokenizer(" " + TARGET)["input_ids"][:5]]
    assert tokenizer.eos_token_id not in row["labels"], "a cut answer does not end"
    assert PlainPrompt(tokenizer).cut([1, 2, 3], 3) == [1, 2, 3]


def test_what_the_rows_lost_is_counted(log_lines: list[str]) -> None:
    """The log once said only that rows were cut, also where no source was left."""
    tokenizer = make_tokenizer()
    fitting, answer = ("a", "b"), len(tokenizer(" " + TARGET)["input_ids"]) + 1
    pairs = [fitting, (SOURCE, TARGET), (SOURCE, TARGET), (SOURCE, TARGET * 9)]
    rows = Dataset.from_dict({"source": [x for x, _ in pairs], "target": [y for _, y in pairs]})
    columns = e2e(max_length=answer + 4).encode(rows, tokenizer).column_names
    assert sorted(columns) == ["attention_mask", "input_ids", "labels", "length", "source"]
    e2e(max_length=500).encode(rows, tokenizer)
    assert log_lines == [
        f"WARNING 3 of 4 rows are longer than task.max_length {answer + 4} and lost tokens: "
        "2 the end of their source, 1 their whole source, 1 the end of their answer; raise --task.max_length"
    ]


def test_a_batch_is_padded_and_the_padding_is_not_learned() -> None:
    tokenizer = make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    task = e2e()
    rows = Dataset.from_dict({"source": [SOURCE, "a"], "target": [TARGET, "b"]})
    batch = task.collate(tokenizer)(list(task.encode(rows, tokenizer)))
    assert type(batch) is dict
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    short = int(batch["attention_mask"][1].sum())
    assert batch["input_ids"].shape == batch["labels"].shape
    assert set(batch["labels"][1, short:].tolist()) == {-100}
    assert int(batch["labels"][1, short - 1]) == tokenizer.eos_token_id


def test_the_loss_is_that_of_the_recipe(float64: None) -> None:
    """(1 - s) nll + s mean_v -log p, over the answer's tokens; without gradients plain nll, which the model has."""
    tokenizer = make_tokenizer()
    model = make_causal("gpt2", len(tokenizer)).double()
    ids = torch.tensor([[*PlainPrompt(tokenizer).ids(SOURCE), 5, 6, 7]])
    labels = ids.clone()
    labels[:, :-3] = -100
    e2e(label_smoothing=0.1).adapt(model)
    logs = nn.functional.log_softmax(model(input_ids=ids).logits, dim=-1)[0, -4:-1]
    nll = -logs[torch.arange(3), labels[0, -3:]].mean()
    expected = 0.9 * nll - 0.1 * logs.mean()
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, expected, rtol=1e-6, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, nll, rtol=1e-6, atol=0)


def test_without_smoothing_the_loss_is_the_models_own() -> None:
    model = make_causal("gpt2", 300)
    ids = torch.randint(300, (2, 9))
    labels = torch.where(torch.rand(2, 9) < 0.3, -100, ids)
    before = model(input_ids=ids, labels=labels).loss
    e2e(label_smoothing=0.0).adapt(model)
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, before)


def test_scores_have_the_official_values_in_lower_case() -> None:
    rows = Dataset.from_dict(
        {"references": [["The Mill is a pub."], ["Zizzi is a pub in the riverside."]], "category": ["", ""]}
    )
    found = E2E(TaskConfig(type="generation", name="e2e", metrics=["NIST", "bleu"])).score_texts(
        ["The Mill is a pub.", "Zizzi is a pub in the riverside."], rows
    )
    assert list(found) == ["bleu", "nist"]
    assert found["bleu"] == pytest.approx(1.0)
    task = WebNLG(TaskConfig(type="generation", name="webnlg", metrics=["bleu", "ter"]))
    rows = Dataset.from_dict({"references": [["a b c d e."], ["f g h i j."]], "category": ["Food", "Artist"]})
    found = task.score_texts(["a b c d e.", "x"], rows)
    assert found["ter.seen"] == 0.0
    assert found["ter.unseen"] == 1.0
    assert found["bleu.seen"] == pytest.approx(100.0)


@pytest.mark.parametrize("asked", [["token_accuracy"], ["token_accuracy", "nist", "bleu"], ["bleu"], ["NIST", "BLEU"]])
def test_the_metric_that_was_asked_for_first_is_the_main_one(asked: list[str]) -> None:
    task = E2E(TaskConfig(type="generation", name="e2e", metrics=asked))
    written = {"bleu": 0.5, "nist": 3.0} | task.token_metrics(1.0, 0.25) | {"loss": 1.0}
    names = list(task.ordered(written))
    assert names[: len(asked)] == [name.lower() for name in asked]
    assert sorted(names) == sorted(written)


def test_java_is_asked_for_before_anything_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    task = E2E(TaskConfig(type="generation", name="e2e", path=str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"Java.*default-jre-headless.*--task\.metrics"):
        task.rows()


def test_a_tokenizer_without_an_end_of_text_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"--model\.name: its tokenizer has no end-of-text token"):
        encoded(e2e(), tokenizer)
