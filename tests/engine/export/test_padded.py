"""The padded adapter has one rank for all layers and gives the run's own logits."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.helpers.exports import RANKS, Exported


@pytest.mark.trains
def test_the_padded_form_has_one_rank_and_the_same_function(exported: Exported) -> None:
    config = json.loads((exported.folder.padded / "adapter_config.json").read_text())
    largest = max(RANKS[exported.kind].values())
    assert config["r"] == largest
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    for name, value in load_file(exported.folder.padded / "adapter_model.safetensors").items():
        if ".lora_A." in name:
            assert value.shape[0] == largest
        if ".lora_B." in name:
            assert value.shape[1] == largest
    model = PeftModel.from_pretrained(exported.plain_base(), exported.folder.padded)
    torch.testing.assert_close(exported.logits_of(model), exported.logits, rtol=1e-5, atol=1e-6)
