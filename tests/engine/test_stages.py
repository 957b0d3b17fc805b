"""The whole job on tiny random models of four families."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from configs.cli import Request
from configs.schema import RunConfig
from engine.interrupt import StopRequest
from engine.stages import run_stages


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_all_stages_write_the_run_folder(tiny_config: Callable[..., RunConfig], kind: str) -> None:
    config = tiny_config(kind=kind)
    folder = run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest())
    for path in (folder.config, folder.trajectory, folder.search_metrics, folder.ranks, folder.report):
        assert path.stat().st_size > 0
    assert (folder.adapter / "adapter_model.safetensors").exists()
    result = json.loads(folder.metrics.read_text())
    assert result["steps"] == {"search": 6, "retrain": 4}
    assert 0 <= result["metrics"]["accuracy"] <= 1
