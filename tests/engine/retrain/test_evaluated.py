"""What was evaluated is named after the user's file, and an accuracy has its standard error."""

import math
from pathlib import Path

import pytest

from autolora.configs.parser import parse
from autolora.engine.retrain.evaluated import evaluated_on, standard_error

TEXT = ("--task.type", "text", "--task.path", "some/train.csv")
CHAT = ("--task.type", "chat", "--task.path", "someone/chats")
TAGS = ("--task.type", "tokens", "--task.path")
NAMED = {
    "held out": (TEXT, "validation", "train.csv, held-out tenth"),
    "held out of the hub's": (CHAT, "validation", "someone/chats, held-out tenth"),
    "held out of a folder": ((*TAGS, "data/folder"), "validation", "folder, held-out tenth"),
    "another share": ((*TEXT, "--task.holdout_share", "0.3"), "validation", "train.csv, held-out 30 %"),
    "a file of its own": ((*TEXT, "--task.validation_path", "else/dev.csv"), "validation", "dev.csv"),
    "test rows": ((*TEXT, "--task.test_path", "else/test.csv"), "test", "test.csv"),
    "sample": ((), "test", "name, test"),
    "glue": (("--task.type", "glue", "--task.name", "sst2"), "validation", "name, validation"),
    "benchmark": (("--task.type", "generation", "--task.name", "e2e"), "test", "name, test"),
    "hub": (CHAT, "test", "someone/chats, test"),
    "a folder with a point": ((*TAGS, "data/v1.0"), "validation", "data/v1.0, validation"),
}


@pytest.mark.parametrize("case", NAMED)
def test_the_evaluated_rows_are_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data/folder", "data/v1.0"):
        Path(folder).mkdir(parents=True)
    arguments, split, words = NAMED[case]
    assert evaluated_on(parse(list(arguments)).config, "name", split, held_out="held-out" in words) == words


def test_an_accuracy_has_a_standard_error_and_is_never_certain() -> None:
    assert standard_error({"accuracy": 0.9}, 1000) == pytest.approx(math.sqrt(0.9 * 0.1 / 1000), rel=0.01)
    # Two right and two wrong rows beside the ten right ones.
    assert standard_error({"accuracy": 1.0}, 10) == pytest.approx(math.sqrt((12 / 14) * (2 / 14) / 14))
    assert standard_error({"accuracy": 0.0}, 10) == pytest.approx(math.sqrt((12 / 14) * (2 / 14) / 14))
    assert standard_error({"f1": 0.9, "accuracy": 0.9}, 1000) is None
    assert standard_error({"accuracy": 0.9}, 0) is None
