"""The lora_alpha of a layer under each retrain.scale, as the scale that PEFT makes of it: lora_alpha / rank."""

import math
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from autolora.configs.schema import Autolora
from autolora.configs.training import RetrainOfSearch
from autolora.engine import ranks
from autolora.engine.export.lora_config import alpha_of, save_lora_config, stock_config
from autolora.problems.models.attach import lora_layers
from tests.helpers.exports import scales_of
from tests.helpers.generation_toys import make_causal

K = 8


def config(scale: str) -> Autolora:
    return Autolora(retrain=RetrainOfSearch(scale=scale))  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [1, 3, K])
@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("component", lambda rank: 16 / K),
        ("fixed", lambda rank: 16 / rank),
        ("rslora", lambda rank: 16 / math.sqrt(rank)),
        ("mean_rank", lambda rank: 16 / math.sqrt(K * 2)),
    ],
)
def test_the_scale_of_a_layer_follows_from_its_rank(scale: str, expected: object, rank: int) -> None:
    assert callable(expected)
    assert alpha_of(config(scale), rank, K, 2.0) / rank == pytest.approx(expected(rank), rel=1e-12)


def test_all_but_rslora_have_the_scale_of_the_search_where_every_rank_is_k() -> None:
    found = {scale: alpha_of(config(scale), K, K, K) / K for scale in ("mean_rank", "component", "fixed")}
    assert found == dict.fromkeys(found, 16 / K)


def test_parts_of_a_layer_share_its_alpha() -> None:
    kept = {"h.0.c_attn.q": 3, "h.0.c_attn.v": 1, "h.0.c_fc": 2, "h.1.c_fc": 0}
    record = ranks.RankRecord(K, tuple(ranks.LayerRank(name, rank) for name, rank in kept.items()))
    found = {s: stock_config(LoraConfig(), record, config(s)).alpha_pattern for s in ("component", "mean_rank")}
    assert found["component"] == {"h.0.c_attn": 8, "h.0.c_fc": 4}
    assert found["mean_rank"] == {"h.0.c_attn": 16, "h.0.c_fc": 8}, "the mean is that of parts"
    assert stock_config(LoraConfig(), record, config("fixed")).alpha_pattern == {}


def test_a_whole_alpha_is_written_as_an_int() -> None:
    """Some trainers accept no float."""
    assert [repr(alpha_of(config("component"), rank, K, 2.0)) for rank in (4, 3)] == ["8", "6"]
    assert isinstance(alpha_of(config("mean_rank"), 3, K, 3.0), float)


@pytest.mark.trains
def test_the_scale_of_rslora_is_peft_s_own(tmp_path: Path) -> None:
    """In lora_config/ alpha_pattern holds it; PEFT's use_rslora computes the same of lora_alpha."""
    kept = {f"transformer.h.{i}.attn.c_attn": rank for i, rank in enumerate((2, 7))}
    record = ranks.RankRecord(K, tuple(ranks.LayerRank(name, rank) for name, rank in kept.items()))
    save_lora_config(LoraConfig(task_type="CAUSAL_LM"), record, tmp_path, config("rslora"))
    mine = get_peft_model(make_causal("gpt2", 20), LoraConfig.from_pretrained(tmp_path))
    given: Any = {"r": 7, "lora_alpha": 16, "rank_pattern": kept, "target_modules": list(kept), "use_rslora": True}
    theirs = get_peft_model(make_causal("gpt2", 20), LoraConfig(task_type="CAUSAL_LM", **given))
    assert {name: layer.r["default"] for name, layer in lora_layers(mine).items()} == kept
    assert scales_of(mine) == pytest.approx(scales_of(theirs), rel=1e-12)
