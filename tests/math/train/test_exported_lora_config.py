"""lora_config/: what PEFT trains from it has the recorded ranks and scales."""

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, TaskType, get_peft_model

from autolora.configs.schema import Autolora, WithLora
from autolora.configs.training import RetrainOfSearch
from autolora.engine import ranks
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.problems.models.attach import lora_layers
from tests.helpers.exports import scales_of
from tests.helpers.generation_toys import make_causal


class OfOneType:
    """All that `adapter_config` asks of a task."""

    peft_type = TaskType.CAUSAL_LM


def saved(folder: Path, config: WithLora, kept: dict[str, int], k: int = 8) -> dict[str, Any]:
    """adapter_config.json of lora_config/ at these ranks."""
    record = ranks.RankRecord(k, tuple(ranks.LayerRank(name, rank) for name, rank in kept.items()))
    task: Any = OfOneType()
    save_lora_config(adapter_config(config, record, task, []), record, folder, config)
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


def test_mean_rank_gives_one_scale_that_grows_as_ranks_get_fewer(tmp_path: Path) -> None:
    """With one scale for all, programs that read only r and lora_alpha are right about every layer."""
    config = Autolora(name="a")
    assert config.retrain.scale == "mean_rank"
    found = saved(tmp_path, config, {"x.q": 3, "x.v": 1, "y.q": 0}, k=8)  # mean 2 over the layers that keep LoRA
    assert found["alpha_pattern"] == {"x.q": 3 * 4.0, "x.v": 4.0}, "16 / sqrt(8 * 2) = 4"
    assert found["lora_alpha"] == 3 * 4.0
    found = saved(tmp_path, config, {"x.q": 8, "x.v": 8}, k=8)
    assert json.dumps(found["alpha_pattern"]) == '{"x.q": 16, "x.v": 16}', "at rank k that of the search"
    found = saved(tmp_path, config, {"x.q": 2, "x.v": 2}, k=8)
    assert found["lora_alpha"] / 2 == 4.0


@pytest.mark.trains
def test_the_scale_of_rslora_is_peft_s_own(tmp_path: Path) -> None:
    """In lora_config/ alpha_pattern holds it; PEFT's use_rslora computes the same of lora_alpha."""
    config = Autolora(name="a", retrain=RetrainOfSearch(scale="rslora"))
    kept = {f"transformer.h.{i}.attn.c_attn": rank for i, rank in enumerate((2, 7))}
    saved(tmp_path, config, kept)
    mine = get_peft_model(make_causal("gpt2", 20), LoraConfig.from_pretrained(tmp_path))
    given: Any = {"r": 7, "lora_alpha": 16, "rank_pattern": kept, "target_modules": list(kept), "use_rslora": True}
    theirs = get_peft_model(make_causal("gpt2", 20), LoraConfig(task_type="CAUSAL_LM", **given))
    assert {name: layer.r["default"] for name, layer in lora_layers(mine).items()} == kept
    assert scales_of(mine) == pytest.approx(scales_of(theirs), rel=1e-12)
    assert list(scales_of(mine).values()) == pytest.approx([16 / 2**0.5, 16 / 7**0.5])
