"""A retrained model in all its exported forms, with the logits that it gave before it was written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.requests import Request
from autolora.configs.schema import WithLora
from autolora.engine.disk.files import write_json
from autolora.engine.export import adapter
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from tests.helpers.methods import Done, batch_for

# Ranks of every kind: none, one, less than k, more than k; a layer that the search's targets do not name.
RANKS = {
    "bert": {
        "bert.encoder.layer.0.attention.self.query": 0, "bert.encoder.layer.0.attention.self.value": 1,
        "bert.encoder.layer.1.attention.self.query": 3, "bert.encoder.layer.1.output.dense": 6,
    },
    "roberta": {
        "roberta.encoder.layer.0.attention.self.query": 2, "roberta.encoder.layer.1.attention.self.query": 0,
        "roberta.encoder.layer.1.attention.self.value": 5,
    },
    "gpt2": {"transformer.h.0.attn.c_attn": 3, "transformer.h.1.attn.c_attn": 0, "transformer.h.1.mlp.c_fc": 5},
    "llama": {
        "model.layers.0.self_attn.q_proj": 1, "model.layers.0.self_attn.v_proj": 0,
        "model.layers.1.self_attn.v_proj": 4,
    },
}  # fmt: skip
K, LORA_ALPHA = 4, 6.0


@dataclass
class Exported(Done):
    """A run that was exported in all forms."""

    kind: str
    scale: str


def make_export(config: WithLora, kind: str, base: Path) -> Exported:
    """Retrains a model of `kind` at RANKS and exports it as `config` asks."""
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    layers = [{"name": name, "rank": rank} for name, rank in RANKS[kind].items()]
    write_json(folder.ranks, {"k": K, "layers": layers})
    made = Exported(base, folder, batch_for(base), torch.zeros(0), {}, kind, config.retrain.scale)
    original = adapter.save_adapter

    def keep(model: Any, *arguments: Any) -> None:
        made.logits = made.logits_of(model)
        original(model, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "save_adapter", keep)
        run_stages(Request(config, "retrain", False, "tiny.yaml"), StopRequest(), draw=False)
    return made


def of_mean_rank(kept: Mapping[str, int], alpha: float, k: int) -> Any:
    """What `scales_of` must be with retrain.scale mean_rank, nearly; `kept`: layer -> rank."""
    return pytest.approx(dict.fromkeys(kept, alpha / math.sqrt(k * sum(kept.values()) / len(kept))), rel=1e-12)


def scales_of(model: Any) -> dict[str, float]:
    """The scale of each layer with LoRA."""
    return {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}
