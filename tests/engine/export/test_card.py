"""adapter/README.md: facts and ranks; its lines are run (a language model's in tests/contract/test_tasks.py)."""

from pathlib import Path
from typing import Any

import yaml

from tests.helpers.cards import CHAT, card_of


def metadata(text: str) -> dict[str, Any]:
    """What the hub reads of a card."""
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_hub_finds_the_card_by_its_base_and_by_what_the_model_does(tmp_path: Path) -> None:
    """PEFT's own card, which this one replaces, has the same."""
    assert metadata(card_of(tmp_path, CHAT, [])) == {
        "library_name": "peft", "base_model": "org/base",
        "tags": ["base_model:adapter:org/base", "lora", "transformers"],
    }  # fmt: skip


def test_task_result_and_ranks_stand_in_it(tmp_path: Path) -> None:
    text = card_of(tmp_path, (*CHAT, "--model.revision", "v1"), [])
    assert "\n---\n# mine\n" in text
    assert "A PEFT LoRA adapter of `org/base`, revision `v1`." in text
    assert "| result | bleu 0.6124 on test; loss 1.2500 |" in text
    assert "| ranks | mean 1.33 of k = 4 over 3 layers; scale component |" in text
    assert "| size | 12,345 LoRA parameters |" in text
    assert "| model.layers.0.self_attn.q | 3 |\n| model.layers.0.self_attn.v | 0 |\n" in text


def test_a_base_in_a_gguf_file_is_loaded_from_it(tmp_path: Path) -> None:
    text = card_of(tmp_path, CHAT, [], "org/base/x.gguf")
    assert "adapter of `org/base/x.gguf`." in text
    assert "gguf_file=AutoConfig.from_pretrained(adapter).gguf_file" in text


def test_no_path_of_this_machine_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    given = ("--task.type", "chat", "--task.path", str(tmp_path / "x.jsonl"))
    text = card_of(tmp_path, given, [], str(tmp_path / "base"))
    assert str(tmp_path) not in text
    assert "adapter of `base`." in text
    assert metadata(text).keys() == {"library_name", "tags"}
    assert metadata(text)["tags"] == ["lora", "transformers"]
