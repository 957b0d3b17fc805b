"""adapter/README.md: facts and ranks; its lines are run (a language model's in
tests/contract/test_tasks.py)."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml

from autolora.engine.export.card import card_of as text_of
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.problems.tasks import make_task
from tests.helpers.chat_toys import TURNS, chat_tokenizer
from tests.helpers.command import parse

RESULT = {
    "metrics": {"bleu": 0.61237, "protein.f1": 0.5},
    "split": "test",
    "loss": 1.25,
    "lora_parameters": 12345,
}
RANKS = {
    "model.layers.0.self_attn.q": 3,
    "model.layers.0.self_attn.v": 0,
    "model.layers.1.self_attn.q": 1,
}
RECORD = RankRecord(
    4,
    tuple(LayerRank(name, rank, (0.25,) * 4) for name, rank in RANKS.items()),
    lora_alpha=8.0,
    scale="component",
)


def card_of(folder: Path, *arguments: str, name: str = "org/base") -> str:
    """The card of a run on conversations that trained nothing."""
    rows = folder / "x.jsonl"
    rows.write_text(f"{json.dumps({'messages': TURNS})}\n" * 2)
    words = [
        "--task.type",
        "chat",
        "--task.path",
        str(rows),
        "--model.name",
        name,
        "--name",
        "mine",
        *arguments,
    ]
    config = parse(words).config
    inputs: Any = SimpleNamespace(task=make_task(config.task, 0), tokenizer=chat_tokenizer())
    return text_of(config, inputs, torch.float32, RESULT, RECORD)


def metadata(text: str) -> dict[str, Any]:
    """What the hub reads of a card."""
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_hub_finds_the_card_by_its_base_and_task_result_and_ranks_stand_in_it(
    tmp_path: Path,
) -> None:
    """PEFT's own card, which this one replaces, has the same metadata."""
    text = card_of(tmp_path, "--model.revision", "v1")
    assert metadata(text) == {
        "library_name": "peft",
        "base_model": "org/base",
        "tags": ["base_model:adapter:org/base", "lora", "transformers"],
    }
    assert "A PEFT LoRA adapter of `org/base`, revision `v1`." in text
    assert "| result | bleu 0.6124 on test; loss 1.2500 |" in text
    assert "| ranks | mean 1.33 of k = 4 over 3 layers; scale component |" in text
    assert "| size | 12,345 LoRA parameters |" in text
    assert "| model.layers.0.self_attn.q | 3 |\n| model.layers.0.self_attn.v | 0 |\n" in text


def test_no_path_of_this_machine_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    text = card_of(tmp_path, name=str(tmp_path / "base"))
    assert str(tmp_path) not in text
    assert "adapter of `base`." in text
    assert metadata(text) == {"library_name": "peft", "tags": ["lora", "transformers"]}
