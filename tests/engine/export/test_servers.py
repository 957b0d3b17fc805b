"""Which folder a card names for each server."""

import re
from pathlib import Path

import pytest

from autolora.engine.run.folder import RunFolder
from tests.helpers.cards import CHAT, card_of


def test_servers_are_told_which_folder_is_theirs(tmp_path: Path) -> None:
    RunFolder(tmp_path).padded.mkdir()
    text = card_of(tmp_path, CHAT, [])
    assert "| vLLM | `adapter_padded/` |" in text
    assert "| llama.cpp (`--lora`, on a GGUF file of the base) | not written (`--export.gguf true`) |" in text
    assert "| any other | not written (`--export.merged true`) |" in text
    assert "vLLM refuses them" not in text


@pytest.mark.parametrize(
    ("rank", "told"),
    [
        (16, "`adapter_padded/`"),
        (17, "`adapter_padded/` with `--max-lora-rank 32`"),
        (257, "`adapter_padded/` with `--max-lora-rank 320`"),
        (513, "not written (`--export.merged true`)"),
    ],
)
def test_vllm_is_given_a_rank_that_it_allows(tmp_path: Path, rank: int, told: str) -> None:
    RunFolder(tmp_path).padded.mkdir()
    assert f"| vLLM | {told} |" in card_of(tmp_path, CHAT, [], rank=rank)


@pytest.mark.parametrize("arguments", [("--export.gguf", "true"), ()])
def test_no_export_is_proposed_that_the_program_refuses_or_could_not_write(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    adapter = RunFolder(tmp_path).adapter
    adapter.mkdir()
    (adapter / "config.json").write_text('{"model_type": "%s"}' % ("llama" if arguments else "gpt_neox"))
    text = card_of(tmp_path, (*CHAT, "--model.load_in_4bit", "true", *arguments), [])
    assert "(`--export.gguf" not in text
    assert "(`--export.merged" not in text
    assert "GGUF file of the base) | the merged model, converted |" in text
    assert "the base in 4 bits" in text


def test_modules_trained_whole_are_told(tmp_path: Path) -> None:
    text = card_of(tmp_path, CHAT, [], whole=["lm_head"])
    assert "trained whole (lm_head): vLLM refuses them, TGI leaves them out" in text


@pytest.mark.parametrize("written", [False, True])
def test_vllm_is_given_the_merged_model_of_gpt2_for_which_it_has_no_lora(tmp_path: Path, written: bool) -> None:
    place = RunFolder(tmp_path)
    place.padded.mkdir()
    place.adapter.mkdir()
    (place.adapter / "config.json").write_text('{"model_type": "gpt2"}')
    if written:
        place.merged.mkdir()
    text = card_of(tmp_path, CHAT, [])
    assert f"| vLLM | {'`merged/`' if written else 'not written (`--export.merged true`)'} |" in text
    assert "| TGI | `adapter_padded/` |" in text


def test_the_tokens_that_end_an_answer_are_named(tmp_path: Path) -> None:
    """A server stops at those of the base, which a model that was not tuned for chat lacks."""
    text = card_of(tmp_path, CHAT, [])
    assert "An answer ends with token 0 (`<|endoftext|>`) or token " in text
    assert re.search(r"needs \[0, \d+\] as stop_token_ids in each request\.", text)
    assert "(`<|im_end|>`). The folders' generation_config.json says so" in text
