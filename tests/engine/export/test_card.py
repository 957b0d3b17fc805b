"""adapter/README.md of a language model; tests/test_chat_runs.py runs its lines."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.parser import parse
from engine.export.card import save_card
from engine.run.folder import RunFolder
from problems.tasks import make_task
from tests.helpers.chat_toys import chat_tokenizer

E2E = ("--task.type", "generation", "--task.name", "e2e", "--task.metrics", "[bleu]")
CHAT = ("--task.type", "chat", "--task.path", "x.jsonl")
LONG = {"messages": [], "prompt": "x" * 3000, "prompt_ids": [1] * 90, "text": "a", "token_ids": [1]}
CUT = {"source": "s", "prompt": "cut", "prompt_ids": [1] * 128, "text": "a", "token_ids": [1]}
GOOD = {"source": "it's", "prompt": "a\n```\nb", "prompt_ids": [1] * 5, "text": "a", "token_ids": [1]}


def card_of(folder: Path, arguments: tuple[str, ...], rows: list[dict[str, Any]], config: dict[str, Any]) -> str:
    """The card of a run with these rows in predictions.jsonl."""
    run = RunFolder(folder)
    run.adapter.mkdir()
    (run.adapter / "config.json").write_text(json.dumps(config))
    (run.adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    if rows:
        run.written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = parse(list(arguments)).config
    save_card(run, make_task(settings), chat_tokenizer(), settings, torch.float32)
    text = (run.adapter / "README.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        ast.parse(code)
    return text


def test_the_first_row_that_is_short_and_whole_is_the_example(tmp_path: Path) -> None:
    text = card_of(tmp_path, E2E, [LONG, CUT, GOOD], {})
    assert "A PEFT LoRA adapter of `org/base` (packages peft, transformers)." in text
    assert "of row 3 of the run's predictions.jsonl" in text
    assert "````text\na\n```\nb\n````" in text, "a fence longer than any in the text"
    assert 'source = "it\'s"' in text
    assert "num_beams=10, length_penalty=0.8, max_new_tokens=64" in text
    assert "no 4 tokens in a row come twice" in text
    assert "gguf" not in text


def test_where_all_are_long_the_shortest_is(tmp_path: Path) -> None:
    assert "of row 1 of" in card_of(tmp_path, E2E, [LONG | {"source": "x"}, CUT], {})


@pytest.mark.parametrize("rows", [[], [GOOD | {"messages": [{"role": "user", "content": "q"}]}]], ids=["none", "one"])
def test_a_chat_model_is_asked_in_turns_also_where_nothing_was_sampled(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    found = [{name: value for name, value in row.items() if name != "source"} for row in rows]
    text = card_of(tmp_path, CHAT, found, {"gguf_file": "x.gguf"})
    assert "the GGUF file `x.gguf` in `org/base`" in text
    assert "gguf_file=AutoConfig.from_pretrained(adapter).gguf_file,\n    dtype=" in text
    asked = "q" if rows else "..."
    assert f"messages = [{{'role': 'user', 'content': '{asked}'}}]" in text
    assert "num_beams=1, max_new_tokens=128" in text
    assert ("of row 1 of" in text) == bool(rows)
