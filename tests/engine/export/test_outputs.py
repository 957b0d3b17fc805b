"""Which forms of a result are written, in which order, and the warning about servers."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.export import outputs
from autolora.engine.export.outputs import save_all
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder

CHAT = ("--task.type", "chat", "--task.path", "x.jsonl")
LORA = "base_model.model.q_proj.lora_A.weight"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """written("--export.merged", "true"): the names of what a run with these settings writes, in this order.

    `weights`: the names of the tensors in the adapter."""

    def write(*arguments: str, weights: tuple[str, ...] = (LORA,)) -> list[str]:
        folder, made = RunFolder(tmp_path), []
        ranks.save(RankRecord(4, (LayerRank("q_proj", 2),)), folder.ranks)

        def saves(at: int) -> Callable[..., None]:
            def save(*given: Any) -> None:
                path: Path = given[at]
                if path == folder.padded:
                    assert given[0] == folder.adapter
                    path.mkdir(exist_ok=True)
                    save_file({name: torch.zeros(1) for name in weights}, path / "adapter_model.safetensors")
                made.append(path.name)

            return save

        for name, at in (
            ("save_adapter", 2), ("save_lora_config", 2), ("save_padded", 1), ("save_gguf", 1), ("save_merged", 2),
        ):  # fmt: skip
            monkeypatch.setattr(outputs, name, saves(at))
        monkeypatch.setattr(outputs, "base_shapes", lambda model: {})
        monkeypatch.setattr(outputs, "modules_of", lambda model: set())
        model: Any = SimpleNamespace(peft_config={"default": None})
        tokenizer: Any = None
        save_all(model, tokenizer, folder, parse(list(arguments)).config)
        return made

    return write


def test_a_classifier_has_its_adapter_and_what_other_trainers_read(written: Callable[..., list[str]]) -> None:
    assert written("--method", "autolora") == ["adapter", "lora_config"]


def test_a_method_that_searches_no_ranks_has_no_lora_config(written: Callable[..., list[str]]) -> None:
    assert written("--method", "lora") == ["adapter"]


def test_a_language_model_is_padded_unless_that_is_not_wanted(written: Callable[..., list[str]]) -> None:
    assert written(*CHAT, "--method", "lora") == ["adapter", "adapter_padded"]
    assert written(*CHAT, "--method", "lora", "--export.padded", "false") == ["adapter"]
    assert written("--method", "lora", "--export.padded", "true") == ["adapter", "adapter_padded"]


def test_merging_comes_last_as_it_spends_the_model(written: Callable[..., list[str]]) -> None:
    asked = ("--export.gguf", "true", "--export.merged", "true")
    assert written(*CHAT, *asked) == ["adapter", "lora_config", "adapter_padded", "adapter.gguf", "merged"]


def test_servers_that_refuse_modules_trained_whole_are_named(
    written: Callable[..., list[str]], log_lines: list[str]
) -> None:
    written(*CHAT)
    assert not log_lines
    written(*CHAT, weights=(LORA, "base_model.model.lm_head.weight"))
    (line,) = log_lines
    assert line.startswith("WARNING export: ")
    assert "adapter_padded also holds modules trained whole: vLLM refuses such an adapter" in line
