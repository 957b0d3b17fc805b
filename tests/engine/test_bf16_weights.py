"""A causal model whose frozen weights are in bf16 and whose blocks are computed again, through all stages of a run."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.found import read_tensors
from autolora.engine.stages import run_stages
from autolora.problems.models import recompute
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_search_shares_curve_and_retraining_run_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    passes: list[torch.dtype] = []
    checkpoint = recompute.checkpoint

    def counted(forward: object, *args: torch.Tensor, **options: object) -> object:
        passes.append(args[0].dtype)
        return checkpoint(forward, *args, **options)

    monkeypatch.setattr(recompute, "checkpoint", counted)
    data = tmp_path / "messages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()), encoding="utf-8")
    given = {
        "precision": precision, "model.dtype": "bf16", "model.gradient_checkpointing": "true",
        "search.batch_size": 2, "search.gradient_accumulation": 2, "retrain.batch_size": 2,
        "retrain.gradient_accumulation": 2, "answer.rule": "shares", "answer.curve_ranks": "[1]",
    }  # fmt: skip
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    arguments = chat_arguments(save_chat_model(tmp_path / "model"), data, tmp_path / "runs")
    folder = run_stages(parse([*arguments, *words]), StopRequest(), draw=False)
    assert passes
    assert set(passes) == {torch.bfloat16}
    record = ranks.load(folder.ranks)
    assert record.evidence is not None
    assert all(math.isfinite(point.loss) for point in record.evidence.rank_curve)
    assert all(math.isfinite(value) for layer in record.layers for value in layer.share)
    assert any(value != 0 for layer in record.layers for value in layer.share)
    assert math.isfinite(json.loads(folder.metrics.read_text(encoding="utf-8"))["loss"])
    for weights in (read_tensors(folder.search_weights), load_file(folder.adapter / "adapter_model.safetensors")):
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)
