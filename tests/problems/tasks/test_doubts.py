"""Doubtful rows are counted and said; others are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.problems.data import prepare
from autolora.problems.models.load import load_tokenizer
from autolora.problems.tasks import make_task
from autolora.problems.tasks.doubts import warn_of_shared_texts, warn_of_unknown_tokens
from tests.helpers import generation_toys
from tests.helpers.tables import write
from tests.helpers.tiny import make_tokenizer

CHINESE = "\u8fd9\u90e8\u7535\u5f71 \u5f88 \u597d"


def test_texts_that_are_also_trained_on_are_counted(log_lines: list[str]) -> None:
    train = Dataset.from_dict({"a": ["x", "x", "y"], "b": ["1", "2", "3"], "label": [0, 1, 0]})
    other = Dataset.from_dict({"a": ["x", "y", "z", "x"], "b": ["1", "1", "3", "2"], "label": [1, 1, 1, 1]})
    warn_of_shared_texts(train, other, "test", ["a", "b"])
    (line,) = log_lines
    assert line.startswith("WARNING 2 of 4 rows of test have a text that is also in the training rows, ")
    warn_of_shared_texts(train.select([2]), other, "test", ["a", "b"])
    assert len(log_lines) == 1


def test_words_of_a_sentence_are_a_text(log_lines: list[str]) -> None:
    train, other = (Dataset.from_dict({"tokens": tokens}) for tokens in ([["a", "b"]], [["a b"], ["a", "b"]]))
    warn_of_shared_texts(train, other, "test", ["tokens"])
    assert len(log_lines) == 1
    assert "1 of 2" in log_lines[0]


@pytest.mark.parametrize(
    ("texts", "share"), [(["the film is dull"] * 9, None), (["the film is dull", CHINESE], "43 %")]
)
def test_the_share_of_unknown_tokens_is_said(texts: list[str], share: str | None, log_lines: list[str]) -> None:
    tokenizer = make_tokenizer()
    rows = Dataset.from_dict({"input_ids": tokenizer(texts)["input_ids"]})
    warn_of_unknown_tokens(rows, "test", tokenizer)
    assert len(log_lines) == (share is not None)
    assert all(f"{share} of the tokens of test are unknown to the tokenizer (<unk>)" in line for line in log_lines)


def test_a_tokenizer_of_bytes_knows_every_text(log_lines: list[str]) -> None:
    """GPT-2 names its end of text as the unknown token: each row has it, and no text is unknown."""
    tokenizer = generation_toys.make_tokenizer()
    tokenizer.unk_token = tokenizer.eos_token
    assert tokenizer.unk_token_id is not None
    rows = Dataset.from_dict({"input_ids": [[*tokenizer(CHINESE)["input_ids"], tokenizer.eos_token_id]]})
    warn_of_unknown_tokens(rows, "test", tokenizer)
    assert log_lines == []


def said(config: RunConfig, log_lines: list[str]) -> list[str]:
    """The warnings of preparing the rows of a run."""
    log_lines.clear()
    prepare(make_task(config), load_tokenizer(config.model), config)
    return [line for line in log_lines if line.startswith("WARNING")]


def test_all_of_it_is_said_when_a_table_is_prepared(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    def table(name: str, texts: list[str], labels: list[str]) -> str:
        return str(write(tmp_path / name, {"text": texts, "label": labels}))

    texts = ["the film is dull", "the room is dull", "the soup is dull", "the play is dull"]
    train = table("train.csv", texts, ["a", "b", "a", "b"])
    dev = table("dev.csv", [texts[0], CHINESE], ["a", "b"])

    def config(*more: str) -> RunConfig:
        return tiny_config("--task.type", "text", "--task.path", train, "--task.validation_path", dev, *more)

    shared, unknown = said(config(), log_lines)
    assert "1 of 2 rows of validation has a text" in shared
    assert "of the tokens of validation are unknown" in unknown
    lines = said(config("--task.max_length", "5"), log_lines)
    assert [line for line in lines if "cut" in line] == [
        "WARNING 1 of 2 rows of validation are longer than task.max_length 5 and were cut",
        "WARNING 4 of 4 training rows are longer than task.max_length 5 and were cut",
    ]


def test_the_sample_shares_no_text_and_cuts_none(tiny_config: Callable[..., RunConfig], log_lines: list[str]) -> None:
    # The tiny tokenizer was made from a part of the words.
    assert [line for line in said(tiny_config(), log_lines) if "unknown to the tokenizer" not in line] == []


def test_a_source_that_is_also_trained_on_is_counted(tmp_path: Path, log_lines: list[str]) -> None:
    """Another reference of it is another row, but gives the answer away."""
    model, data = generation_toys.save_causal(tmp_path / "m", "gpt2"), generation_toys.write_e2e(tmp_path / "d")
    config: Any = parse(generation_toys.arguments(model, data, tmp_path / "runs", "[c_attn]")).config
    assert "4 of 4 rows of test have a text" in said(config, log_lines)[0]
