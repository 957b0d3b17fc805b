"""The measurements on a tiny model: what their JSON holds. No time is asserted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import memory, step

TINY = ("--k", "4", "--batch_size", "4", "--length", "16", "--device", "cpu", "--precision", "fp32")


@pytest.mark.trains
def test_seconds_and_memory_of_a_step(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    place = tmp_path / "x.json"
    model = ("--model", str(model_folder("bert")))
    few = ("--rounds", "1", "--warmup", "1", "--methods", "first_order", "exact")
    assert step.main([*model, *TINY, *few, "--json", str(place)]) == 0
    assert set(json.loads(place.read_text())["ratio_to_lora"]) == {"first_order", "exact"}
    assert (
        memory.main([*model, *TINY, "--only", "darts", "--steps", "1", "--json", str(place)]) == 0
    )
    assert json.loads(place.read_text())["peak_mib"] > 0
