"""Houlsby's bottlenecks: where they sit, what is trained, and that a saved adapter is the trained model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    RobertaConfig,
    set_seed,
)

from autolora.problems.models import bottleneck
from autolora.problems.models.bottleneck import Bottleneck

WIDTH, LAYERS, NARROW = 16, 2, 3
IDS = {"input_ids": torch.tensor([[2, 5, 7, 3], [2, 9, 4, 8]])}


def model(kind: str = "bert") -> Any:
    set_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
    config = {"bert": BertConfig, "roberta": RobertaConfig}[kind](vocab_size=20, max_position_embeddings=16, **sizes)
    return AutoModelForSequenceClassification.from_config(config).eval()


def logits(of: Any) -> torch.Tensor:
    with torch.no_grad():
        return of(**IDS).logits


def shake(of: Any) -> None:
    """Stands in for a training: every trained number moves."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in of.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.usefixtures("float64")
def test_a_bottleneck_is_the_identity_plus_up_of_gelu_of_down() -> None:
    torch.manual_seed(0)
    inner, x = Bottleneck(WIDTH, NARROW), torch.randn(2, 5, WIDTH)
    assert 0 < float((inner(x) - x).detach().abs().max()) < 1e-2, "nearly the identity at the start"
    for linear in (inner.down, inner.up):
        assert float(linear.weight.detach().abs().max()) <= 2e-2
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    hidden = x @ inner.down.weight.T + inner.down.bias
    gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(inner(x), x + gelu @ inner.up.weight.T + inner.up.bias)


def test_a_saved_adapter_loads_into_the_base_to_the_same_logits(tmp_path: Path) -> None:
    made = model("roberta")
    names = bottleneck.insert(made, NARROW, ["classifier"])
    shake(made)
    bottleneck.save(made, NARROW, ["classifier"], tmp_path / "new" / "adapter")
    folder = tmp_path / "new" / "adapter"
    assert sorted(load_file(folder / bottleneck.WEIGHTS)) == sorted(names)
    settings = json.loads((folder / bottleneck.SETTINGS).read_text())
    assert (settings["bottleneck"], settings["head"]) == (NARROW, ["classifier"])
    assert (folder / "config.json").exists()
    base = model("roberta")
    assert not torch.allclose(logits(base), logits(made), atol=1e-3)
    assert torch.equal(logits(bottleneck.load(base, folder).eval()), logits(made))
