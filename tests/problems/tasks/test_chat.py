"""Conversations as a task: what is left out and told, which answers are written, how texts are
scored."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat
from autolora.problems.tasks.chat import Conversations, exact_match
from autolora.problems.tasks.formats import Conversation
from autolora.problems.tasks.losses import IGNORED
from autolora.problems.tasks.template import Template
from tests.contract.inputs import lines
from tests.helpers.chat_toys import OURS, SYSTEM, TURNS, chat_tokenizer
from tests.helpers.generation_toys import e2e_rows, write_e2e


def task(path: Path, **settings: Any) -> Conversations:
    return Conversations(Chat(type="chat", path=str(path), **{"max_length": 4096, **settings}), 0)


def encoded(of: Conversations, tokenizer: Any) -> tuple[Dataset, Dataset]:
    ((split, evaluated),) = of.raw.evaluation.items()
    return of.encode(of.raw.train, tokenizer), of.encode(evaluated, tokenizer, split)


def warnings(log_lines: list[str]) -> list[str]:
    return [line.removeprefix("WARNING ") for line in log_lines if line.startswith("WARNING")]


def test_rows_are_those_of_the_template(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    of = task(
        lines(tmp_path / "a.jsonl", [{"messages": [SYSTEM, *TURNS]}, {"messages": TURNS[:2]}])
    )
    train, evaluation = encoded(of, tokenizer)
    long, short = sorted([*train, *evaluation], key=lambda row: -row["length"])
    for row, turns, learned in ((long, [SYSTEM, *TURNS], [2, 4]), (short, TURNS[:2], [1])):
        assert (row["input_ids"], row["labels"]) == Template(tokenizer).labelled(turns, learned)
        assert row["length"] == len(row["input_ids"])
        assert Conversation.of(row).prompt == turns[:-1]
        assert Conversation.of(row).references == [turns[-1]["content"]]
    batch = of.collate(tokenizer)([long, short])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    padding = batch["attention_mask"] == 0
    assert batch["labels"].shape[1] % 8 == 0
    assert set(batch["labels"][padding].tolist()) == {IGNORED}
    assert batch["attention_mask"].sum().item() == long["length"] + short["length"]


def test_rows_that_teach_nothing_are_left_out_and_counted(
    tmp_path: Path, log_lines: list[str]
) -> None:
    """No answer, and a row that the template refuses."""
    given = [
        {"messages": TURNS[:2]},
        {"messages": [TURNS[0]]},
        {"messages": [SYSTEM, *TURNS]},
        {"messages": TURNS},
    ]
    path = lines(tmp_path / "a.jsonl", given)
    tokenizer = chat_tokenizer(OURS["no system turn"])
    train, evaluation = encoded(task(path, validation_path=str(path)), tokenizer)
    assert len(train) == len(evaluation) == 2
    where = f"--task.path: {path}"
    assert list(dict.fromkeys(line for line in warnings(log_lines) if line.startswith(where))) == [
        f"{where}: 1 of 4 rows teach nothing; the first is row 2: ValueError: no assistant "
        "turn after a user's that is to be learned and has a text; they are left out",
        f"{where}: 1 of 3 rows teach nothing; the first is row 2: TemplateError: No system "
        "turn here; they are left out",
    ]
    path = lines(tmp_path / "b.jsonl", given[1:2])
    with pytest.raises(
        UserError, match=r"b\.jsonl: 1 of 1 rows teach nothing; .* no assistant turn after a user's"
    ):
        encoded(task(path, validation_path=str(path)), tokenizer)


def test_long_rows_are_cut_at_their_end(tmp_path: Path, log_lines: list[str]) -> None:
    tokenizer = chat_tokenizer()
    rows = [{"prompt": f"Is {i} even?", "completion": "yes " * (1 + i)} for i in range(12)]
    path = lines(tmp_path / "a.jsonl", [*rows, {"prompt": "why " * 60, "completion": "so"}])
    whole, _ = encoded(task(path, validation_path=str(path)), tokenizer)
    most = sorted(whole["length"])[6]
    log_lines.clear()
    train, evaluation = encoded(
        task(path, validation_path=str(path), max_length=most, samples=12), tokenizer
    )
    assert "no token of an answer within task.max_length" in warnings(log_lines)[0]
    assert len(train) == 12
    for row, full in zip(train, whole, strict=False):
        assert row["input_ids"] == full["input_ids"][:most]
        assert row["labels"] == full["labels"][:most]
    asked = task(path, validation_path=str(path), max_length=most, samples=12).decoded(evaluation)
    assert max(asked["length"]) < most, "no answer is written to a prompt that was cut"


def test_a_text_is_learned_whole_without_a_template(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None)
    of = task(
        path := lines(
            tmp_path / "a.jsonl", [{"text": "The Mill is a pub."}, {"text": "Zizzi<|endoftext|>"}]
        ),
        validation_path=str(path),
    )
    train, evaluation = encoded(of, tokenizer)
    for row, text in zip(
        train, ("The Mill is a pub.<|endoftext|>", "Zizzi<|endoftext|>"), strict=True
    ):
        assert tokenizer.decode(row["input_ids"]) == text, "one end, also where the text has it"
        assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert len(of.decoded(evaluation)) == 0, "nothing is asked, so that nothing is answered"
    assert of.prompts(of.decoded(evaluation), tokenizer) == []
    assert of.ends(tokenizer) == [tokenizer.eos_token_id]


def test_a_text_that_a_template_has_rendered_gets_no_second_beginning(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    path = lines(tmp_path / "a.jsonl", [{"text": "a pub"}, {"text": "<bos>a pub"}])
    train, _ = encoded(task(path, validation_path=str(path)), tokenizer)
    assert [tokenizer.decode(ids) for ids in train["input_ids"]] == ["<bos>a pub<|endoftext|>"] * 2


def test_records_are_trained_on_by_reference_and_evaluated_by_source(tmp_path: Path) -> None:
    """E2E: the test split if it is there; the plain template."""
    of = task(write_e2e(tmp_path / "e2e"), format="e2e", metrics=["bleu", "exact_match"])
    tokenizer = chat_tokenizer()
    train, evaluation = encoded(of, tokenizer)
    assert ([*of.raw.evaluation], len(train), len(evaluation)) == (["test"], 24, 4)
    assert tokenizer.decode(train[0]["input_ids"]) == (
        "name : Blue Spice | Type : pub | area : riverside<bos> "
        f"{e2e_rows()[0]['human_reference']}<|endoftext|>"
    )
    assert len(of.decoded(evaluation)) == 4
    references = [Conversation.of(row).references for row in evaluation]
    assert [len(found) for found in references] == [2] * 4
    found = of.score_texts([refs[1] for refs in references], evaluation)
    assert found == {"bleu": pytest.approx(1.0), "exact_match": 1.0}
    assert list(of.ordered({"loss": 1.0, "exact_match": 1.0, "bleu": 0.5})) == [
        "bleu",
        "exact_match",
        "loss",
    ]


def test_perplexity_is_the_exponential_of_the_loss_and_never_overflows(tmp_path: Path) -> None:
    of = task(tmp_path / "a.jsonl")
    rows = Dataset.from_dict({})
    hits = np.array([[1, 4], [2, 2]])
    assert of.metrics(hits, rows, 2.0) == {
        "perplexity": pytest.approx(math.exp(2)),
        "token_accuracy": 0.5,
    }
    assert math.isfinite(of.metrics(hits, rows, 1e6)["perplexity"])


def test_exact_match_is_the_share_of_texts_that_equal_a_reference() -> None:
    assert exact_match(["a  b", "c", "d"], [["x", "a b"], ["C"], ["d "]]) == pytest.approx(2 / 3)
