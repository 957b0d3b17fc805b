"""The Python lines of adapter/README.md, which tests/engine/export/test_card.py runs for whole adapters."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.parser import parse
from autolora.engine.export.loading import loading_lines
from autolora.problems.tasks import make_task
from tests.helpers.chat_toys import PARTS, chat_tokenizer

CHAT = ("--task.type", "chat", "--task.path", "x.jsonl")
E2E = ("--task.type", "generation", "--task.name", "e2e", "--task.metrics", "[bleu]")
GLUE = ("--task.type", "glue", "--task.name", "sst2")


def lines_of(
    *arguments: str, name: str = "org/base", tokenizer: Any = None, dtype: torch.dtype = torch.float32,
    row: dict[str, Any] | None = None, read: bool = False,
) -> str:  # fmt: skip
    config = parse([*arguments, "--model.name", name]).config
    task = make_task(config)
    if read:
        task.rows()
    lines = loading_lines(task, tokenizer or chat_tokenizer(), config, dtype, row or {})
    ast.parse(lines)
    return lines


def imported(lines: str) -> set[str]:
    """The names that the lines import."""
    found = (node for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Import | ast.ImportFrom))
    return {alias.name for node in found for alias in node.names}


def used(lines: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("arguments", [CHAT, E2E, GLUE, ("--task.type", "tokens", "--task.path", "x.conll")])
@pytest.mark.parametrize("name", ["org/base", "org/base/x.gguf", "package:nosuch/model", "package:nosuch/x.gguf"])
def test_what_is_imported_is_used_and_what_is_used_is_imported(arguments: tuple[str, ...], name: str) -> None:
    lines = lines_of(*arguments, name=name)
    known = {"PeftModel", "PeftConfig", "AutoConfig", "AutoTokenizer", "Path", "find_spec", "torch"}
    assert imported(lines) <= used(lines)
    assert used(lines) & known <= imported(lines)


def test_the_base_is_named_by_the_adapter_unless_a_package_holds_it(tmp_path: Path) -> None:
    assert 'revision=settings.revision or "main"' in lines_of(*CHAT)
    assert "the base is a local folder" not in lines_of(*CHAT)
    local = lines_of(*CHAT, name=str(tmp_path))
    assert "the base is a local folder" in local
    assert str(tmp_path) not in local
    packaged = lines_of(*CHAT, name="package:nosuch/model")
    assert 'find_spec("nosuch")' in packaged
    assert "settings" not in packaged


def test_only_a_head_needs_the_configuration_of_the_adapter() -> None:
    """It was made for these classes; a language model has none."""
    assert "ignore_mismatched_sizes=True" in lines_of(*GLUE)
    assert "ignore_mismatched_sizes" not in lines_of(*CHAT)
    assert "AutoConfig" not in lines_of(*CHAT)


@pytest.mark.parametrize(("dtype", "word"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16")])
def test_the_base_is_loaded_as_it_was_trained_on(dtype: torch.dtype, word: str) -> None:
    assert f'dtype="{word}"' in lines_of(*CHAT, dtype=dtype)


def test_a_source_ends_with_the_token_that_begins_a_text_else_with_the_one_that_ends_it() -> None:
    row = {"source": 'a "quoted" source'}
    assert "[[*ids, tokenizer.bos_token_id]]" in lines_of(*E2E, row=row)
    without = chat_tokenizer()
    without.bos_token = None
    assert "[[*ids, tokenizer.eos_token_id]]" in lines_of(*E2E, row=row, tokenizer=without)
    assert f"source = {row['source']!r}" in lines_of(*E2E, row=row)


def test_without_an_example_a_model_with_a_template_is_asked_in_turns_and_another_by_a_text() -> None:
    assert "apply_chat_template" in lines_of(*CHAT)
    plain = lines_of(*CHAT, tokenizer=chat_tokenizer(None))
    assert "apply_chat_template" not in plain
    assert 'ids = tokenizer("...", return_tensors="pt")["input_ids"]' in plain


def test_without_an_example_a_model_is_asked_in_the_form_that_it_learned(tmp_path: Path) -> None:
    """Not by a template that its tokenizer has and the run did not use."""
    (tmp_path / "texts.jsonl").write_text('{"text": "a b"}\n{"text": "c d"}\n' * 6)
    texts = lines_of("--task.type", "chat", "--task.path", str(tmp_path / "texts.jsonl"), read=True)
    assert "apply_chat_template" not in texts
    assert 'ids = tokenizer("...", return_tensors="pt")["input_ids"]' in texts
    for plain in (E2E, (*E2E[:2], "--task.path", "x.csv", "--task.prompt", "plain")):
        found = lines_of(*plain)
        assert "apply_chat_template" not in found
        assert "[[*ids, tokenizer.bos_token_id]]" in found
    assert "apply_chat_template" in lines_of(*E2E[:2], "--task.path", "x.csv", "--task.prompt", "chat")


@pytest.mark.parametrize("arguments", [CHAT, GLUE])
def test_what_the_base_needs_to_load_is_in_the_lines(arguments: tuple[str, ...]) -> None:
    plain = lines_of(*arguments)
    assert "trust_remote_code" not in plain
    assert "load_in_4bit" not in plain
    code = lines_of(*arguments, "--model.trust_remote_code", "true")
    assert code.count("trust_remote_code=True") == code.count(".from_pretrained(") - 2, "PEFT's two need none"
    packed = lines_of(*arguments, "--model.load_in_4bit", "true")
    assert "load_in_4bit=True" in packed
    assert "BitsAndBytesConfig" in imported(packed)
    assert "torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32" in packed


def test_a_template_that_reads_lists_of_parts_is_given_them() -> None:
    turns = [{"role": "user", "content": "Hm?"}]
    assert f"messages = {turns!r}" in lines_of(*CHAT, row={"messages": turns})
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hm?"}]}]
    assert f"messages = {parts!r}" in lines_of(*CHAT, row={"messages": turns}, tokenizer=chat_tokenizer(PARTS))


def test_texts_are_written_as_the_run_wrote_them() -> None:
    tokenizer = chat_tokenizer()
    greedy = lines_of(*CHAT, "--decode.max_new_tokens", "9")
    assert "num_beams=1, max_new_tokens=9,\n    repetition_penalty=1.0," in greedy
    assert "num_beams=3, length_penalty=0.8," in lines_of(*E2E, "--decode.num_beams", "3")
    assert f"pad_token_id={tokenizer.pad_token_id}," in lines_of(*CHAT)
    tokenizer.pad_token = None
    found = lines_of(*CHAT, tokenizer=tokenizer)
    ends = ast.literal_eval(found.split("eos_token_id=")[1].split(", pad_token_id")[0])
    assert f"pad_token_id={ends[0]}," in found
