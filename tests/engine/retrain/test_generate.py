"""The texts of a generation task: kept as --score reads them, and nothing kept of a decoding that was stopped."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from autolora.configs.parser import parse
from autolora.configs.recipe import decoding
from autolora.engine.retrain import generate
from autolora.engine.retrain.generate import in_groups, write_texts
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.terminal import ticker
from autolora.problems.data import Data, prepare
from autolora.problems.tasks.chat import Chats
from autolora.problems.tasks.decoding import Written
from autolora.problems.tasks.generation import Generation
from autolora.problems.tasks.prompts import PlainPrompt
from tests.helpers.chat_toys import chat_tokenizer
from tests.helpers.generation_toys import make_tokenizer

SOURCES = ["name : Aromi", "name : The Vaults | area : riverside | Type : pub"]
ROWS = Dataset.from_dict({"source": SOURCES, "references": [["a  b", "c"], ["d\te"]]})
CONFIG = parse(["--task.type", "generation", "--task.path", "x.jsonl", "--task.max_length", "8"]).config


class Counting(Generation):
    """A task whose scorer counts the texts."""

    name = "counting"

    def records(self) -> Any:
        pytest.fail("the rows are given")

    def score_texts(self, texts: list[str], rows: Dataset) -> dict[str, float]:
        return {"texts": len(texts), "rows": len(rows)}


def texts_of(
    folder: Path, decode: Callable[..., list[Written]], monkeypatch: pytest.MonkeyPatch, stop: StopRequest
) -> tuple[RunFolder, dict[str, float]]:
    """The run folder and the scores."""
    monkeypatch.setattr(generate, "decode", decode)
    config = dataclasses.replace(CONFIG, runs_folder=str(folder.parent), name=folder.name)
    run = Context(config, stop)
    run.task, run.tokenizer = Counting(config.task, []), make_tokenizer()
    run.data = Data(ROWS, {"test": ROWS}, run.task.collate(run.tokenizer))
    return run.folder, write_texts(None, run)


def test_references_of_one_record_stand_together() -> None:
    assert in_groups([["a  b", "c"], ["d\te"]]) == "a b\nc\n\nd e\n"
    assert in_groups([]) == ""


@pytest.mark.trains
def test_texts_and_references_are_kept_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def decode(model: Any, tokenizer: Any, prompts: Any, settings: Any, *rest: Any) -> list[Written]:
        seen.append((prompts, settings))
        return [Written([5, 0], " one"), Written([0], "")]

    folder, scores = texts_of(tmp_path, decode, monkeypatch, StopRequest())
    assert folder.predictions.read_text() == "one\n\n", "a text of nothing keeps its line"
    assert folder.references.read_text() == "a b\nc\n\nd e\n"
    assert scores == {"texts": 2, "rows": 2}
    tokenizer = make_tokenizer()
    ((prompts, settings),) = seen
    plain = PlainPrompt(tokenizer)
    assert prompts == [plain.cut(plain.ids(source), 8) for source in SOURCES]
    assert max(map(len, prompts)) == 8, "cut to task.max_length"
    assert settings == decoding(CONFIG)
    first, _ = (json.loads(line) for line in folder.written.read_text().splitlines())
    assert first == {
        "source": SOURCES[0], "prompt": tokenizer.decode(prompts[0]), "prompt_ids": prompts[0], "text": " one",
        "token_ids": [5, 0],
    }  # fmt: skip


@pytest.mark.trains
def test_a_stop_ends_it_after_the_batch_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, batches = StopRequest(), []

    def decode(*arguments: Any) -> list[Written]:
        for done in (1, 2):
            batches.append(done)
            stop.code = 130
            arguments[-2](done)
        return [Written([5, 0], "one"), Written([6, 0], "two")]

    with pytest.raises(Interrupted):
        texts_of(tmp_path, decode, monkeypatch, stop)
    assert batches == [1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.trains
def test_without_a_terminal_there_is_a_line_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[Written]
) -> None:
    now = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: now[0])

    def decode(*arguments: Any) -> list[Written]:
        for done, seconds in ((1, 4.0), (1, 11.0), (2, 20.0), (2, 22.0)):
            now[0] = seconds
            arguments[-2](done)
        return [Written([5, 0], "one"), Written([6, 0], "two")]

    texts_of(tmp_path, decode, monkeypatch, StopRequest())
    assert log_lines == ["INFO decode 1/2  5.5/min, 0:11 left", "INFO decode 2/2  5.5/min, 0:00 left"]


@pytest.mark.trains
def test_whole_texts_have_nothing_to_answer_and_this_is_said(tmp_path: Path, log_lines: list[str]) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "The Mill is a pub."}\n{"text": "Zizzi is a pub."}\n')
    argv = ["--task.type", "chat", "--task.path", str(path), "--task.validation_path", str(path), "--method", "lora"]
    config = dataclasses.replace(parse(argv).config, runs_folder=str(tmp_path))
    run = Context(config, StopRequest())
    run.task, run.tokenizer = Chats(config.task, 0), chat_tokenizer(None)
    run.data = prepare(run.task, run.tokenizer, config)
    assert write_texts(None, run) == {}
    assert not run.folder.samples.exists()
    assert [line for line in log_lines if "samples.jsonl" in line] == [
        "INFO samples.jsonl: is not written, as no evaluated row has a whole prompt and answer"
    ]
