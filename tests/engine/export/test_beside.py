"""The files beside the weights: where an answer ends, and a tokenizer that cuts nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import GenerationConfig

from autolora.engine.export.adapter import save_adapter, save_merged, save_padded, save_tokenizer
from autolora.problems.models.attach import attach
from tests.helpers.generation_toys import make_causal, make_tokenizer


@pytest.mark.parametrize(("ends", "written"), [([7], 7), ([0, 7], [0, 7]), ([], 0)])
def test_programs_that_read_the_folders_stop_where_the_model_learned_to(
    tmp_path: Path, ends: list[int], written: int | list[int]
) -> None:
    """A base that is not tuned for chat ends only whole texts; temperature: some bases of the hub
    have one without sampling, with which transformers refuses to save a changed configuration."""
    tokenizer = make_tokenizer("<s>")
    base = make_causal("llama", len(tokenizer))
    if ends:
        base.generation_config.temperature = 0.5
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = attach(base, config)
    base.generation_config._original_object_hash = hash(base.generation_config)
    folders = [tmp_path / name for name in ("adapter", "padded", "merged")]
    save_adapter(model, tokenizer, folders[0], ends=ends)
    save_padded(folders[0], folders[1], model)
    save_merged(model, tokenizer, folders[2], ends)
    with_ends = folders if ends else folders[2:]
    for folder in with_ends:
        found = json.loads((folder / "generation_config.json").read_text())
        assert found["eos_token_id"] == written
        assert found.get("temperature") == (0.5 if ends else None)
        assert GenerationConfig.from_pretrained(folder).eos_token_id == written


def test_the_tokenizer_is_written_without_the_truncation_of_its_last_call(tmp_path: Path) -> None:
    """Programs that read tokenizer.json alone cut their texts to the run's task.max_length."""
    tokenizer: Any = make_tokenizer("<s>")
    tokenizer.pad_token = "<s>"
    tokenizer("a text of several tokens", truncation=True, padding="max_length", max_length=3)
    save_tokenizer(tokenizer, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (written["truncation"], written["padding"]) == (None, None)
