"""The measurement of peak memory on tiny models: every training, language models, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.search import COMPARED as TYPES
from autolora.engine.search import engine as search_engine
from autolora.problems.models import recompute as recompute_module
from benchmarks import memory, random_models, retraining
from benchmarks.command import main
from benchmarks.workload import Workload, language_workload

ModelFolder = Callable[..., Path]


@pytest.mark.trains
def test_memory_of_one_training(model_folder: ModelFolder, tmp_path: Path) -> None:
    place = tmp_path / "memory.json"
    argv = ["--json", str(place), "--model", str(model_folder("bert")), "--only", "darts", "--device", "cpu"]
    assert main(memory.MemorySettings, memory.measure, [*argv, "--steps", "1", "--length", "16", "--k", "4"]) == 0
    numbers = json.loads(place.read_text())
    assert 0 < numbers["before_mib"] <= numbers["peak_mib"] + 1


TINY = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize("only", ["lora", "retrain", "darts"])
@pytest.mark.parametrize(("of", "dtype", "checkpointing"), [("random", "bf16", True), ("saved", "fp32", False)])
def test_memory_of_a_language_model(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, only: str, of: str, dtype: str, checkpointing: bool
) -> None:
    monkeypatch.setitem(random_models.SHAPES, "tiny", TINY)
    made: list[Workload] = []
    again: list[Any] = []
    recompute = recompute_module.recompute_blocks

    def workload(*arguments: Any) -> Workload:
        made.append(language_workload(*arguments))
        return made[-1]

    monkeypatch.setattr(memory, "language_workload", workload)
    for module in (retraining, search_engine):
        monkeypatch.setattr(module, "recompute_blocks", lambda *given: again.append(1) or recompute(*given))
    settings = memory.MemorySettings(
        model="random:tiny" if of == "random" else str(model_folder("llama")), language=of == "saved", only=only,
        dtype=dtype, checkpointing=checkpointing, steps=2, batch_size=2, length=8, k=2, device="cpu", precision="fp32",
    )  # fmt: skip
    numbers, _ = memory.measure(settings)
    assert 0 < numbers["before_mib"] <= numbers["peak_mib"] + 1
    assert bool(again) == (checkpointing and only != "lora")  # plain LoRA uses transformers' own
    (work,) = made
    weights = {weight.dtype for weight in work.base(False).model.parameters()}
    assert weights == {torch.bfloat16 if dtype == "bf16" else torch.float32}
    assert work.config.lora.target_modules == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("arguments", "option", "allowed"),
    [
        (("--only", "newton"), "--only: 'newton'", ["lora", "adalora", "retrain", *TYPES]),
        (("--methods", "[darts,newton]"), "--methods: 'newton'", [*TYPES]),
        (("--methods", "[lora]"), "--methods: 'lora'", [*TYPES]),  # it is measured anyway
    ],
)
def test_memory_of_an_unknown_training_is_refused(
    arguments: tuple[str, ...], option: str, allowed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(memory.MemorySettings, memory.measure, list(arguments)) == 2
    assert f"{option} is not allowed; allowed: {', '.join(allowed)}\n" in capsys.readouterr().err
