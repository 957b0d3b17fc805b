"""Settings of a task that its type does not allow are refused by name, from the settings alone."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.task_rules import missing_split

TEXT, TOKENS = ("--task.type", "text", "--task.path", "x.csv"), ("--task.type", "tokens", "--task.path", "x.conll")

IMPOSSIBLE = {
    "training rows of glue as the evaluation": (
        ("--task.type", "glue", "--task.name", "cola", "--task.evaluation_split", "train"),
        r"^--task\.evaluation_split: 'train' is not allowed as its rows are trained on; allowed: a split that is not",
    ),
    "training rows of the sample as the evaluation": (
        ("--task.evaluation_split", "train"),
        r"^--task\.evaluation_split: 'train' is not allowed as",
    ),
    "training rows of a chat as the evaluation": (
        ("--task.type", "chat", "--task.path", "a/b", "--task.evaluation_split", "train_sft"),
        r"^--task\.evaluation_split: 'train_sft' is not allowed as",
    ),
    "glue without a task": (("--task.type", "glue"), r"^--task\.name: null is not allowed for --task\.type glue"),
    "chat without a file": (
        ("--task.type", "chat"),
        r"^--task\.path: null .* chat; allowed: a \.jsonl, \.json, \.parquet, \.csv, \.tsv, a folder, or a hub name$",
    ),
    "chat of a number": (
        ("--task.type", "chat", "--task.path", "x.jsonl", "--task.kind", "regression"),
        r"^--task\.kind: 'regression' is not allowed for --task\.type chat",
    ),
    "generation without a file": (
        ("--task.type", "generation"),
        r"^--task\.path: null is not allowed for --task\.type generation unless",
    ),
    "generation from a pair of columns": (
        ("--task.type", "generation", "--task.name", "e2e", "--task.text_columns", "[a,b]"),
        r"^--task\.text_columns: .* is not allowed for --task\.type generation",
    ),
    "generation of a number": (
        ("--task.type", "generation", "--task.name", "e2e", "--task.kind", "regression"),
        r"^--task\.kind: 'regression' is not allowed for --task\.type generation",
    ),
    "an unknown task of glue": (
        ("--task.type", "glue", "--task.name", "imdb"),
        r"^--task\.name: 'imdb' is not allowed for --task\.type glue; allowed: cola, sst2, mrpc, .*stsb$",
    ),
    "another split of the sample": (
        ("--task.evaluation_split", "dev"),
        r"^--task\.evaluation_split: 'dev' is not allowed for --task\.type sample; allowed: validation, test$",
    ),
    "another split of a table": (
        (*TEXT, "--task.evaluation_split", "foo"),
        r"^--task\.evaluation_split: 'foo' is not allowed; allowed: validation, test$",
    ),
    "a test split of a table without a file": (
        (*TEXT, "--task.evaluation_split", "test"),
        r"^--task\.evaluation_split: 'test' needs --task\.test_path$",
    ),
    "a test split of a table of generation": (
        ("--task.type", "generation", "--task.path", "x.csv", "--task.evaluation_split", "test"),
        r"^--task\.evaluation_split: 'test' needs --task\.test_path$",
    ),
    "a test split of tagged sentences": (
        (*TOKENS, "--task.evaluation_split", "test"),
        r"^--task\.evaluation_split: 'test' needs --task\.test_path$",
    ),
    "another split of a file of conversations": (
        ("--task.type", "chat", "--task.path", "x.JSONL", "--task.evaluation_split", "dev"),
        r"^--task\.evaluation_split: 'dev' is not allowed; allowed: validation, test$",
    ),
    "a metric of words for texts": (
        (*TEXT, "--task.metrics", "[accuracy,f1]"),
        r"^--task\.metrics: 'f1' is not allowed for --task\.type text with --task\.kind classification; allowed: accu",
    ),
    "a metric of texts for words": (
        (*TOKENS, "--task.metrics", "[accuracy]"),
        r"^--task\.metrics: 'accuracy' is not allowed for --task\.type tokens; allowed: f1, precision, recall$",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_setting_that_a_task_lacks_is_refused(case: str) -> None:
    arguments, message = IMPOSSIBLE[case]
    with pytest.raises(UserError, match=message):
        parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (*TEXT, "--task.evaluation_split", "test", "--task.test_path", "t.csv"),
        (*TEXT, "--task.evaluation_split", "validation"),
        ("--task.type", "tokens", "--task.path", "org/data", "--task.evaluation_split", "dev"),
        ("--task.type", "chat", "--task.path", "data", "--task.evaluation_split", "test_sft"),
        ("--task.type", "glue", "--task.name", "mnli", "--task.evaluation_split", "validation_matched"),
        ("--task.type", "generation", "--task.name", "e2e", "--task.evaluation_split", "validation"),
    ],
)
def test_a_split_that_may_exist_is_left_to_the_data(arguments: tuple[str, ...]) -> None:
    assert parse(arguments).config


def test_a_folder_may_have_a_test_file(tmp_path: Path) -> None:
    given = ("--task.type", "tokens", "--task.path", str(tmp_path), "--task.evaluation_split", "test")
    config = parse(given).config
    assert missing_split(config.task, "test") == "--task.evaluation_split: 'test' needs --task.test_path"
