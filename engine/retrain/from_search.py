"""Start a retraining from the components that a search found, or from a cut adapter, instead of fresh weights
(`retrain.init`)."""

import dataclasses
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file

from autolora.configs.errors import UserError
from autolora.configs.schema import WithLora
from autolora.engine.cut.cut import lora_pair, scale_of
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.record import chosen_components
from autolora.problems.models.attach import ADAPTER, factors, lora_layers

_PREFIX = "base_model.model."


@torch.no_grad()
def start_from_search(
    model: PeftModel, config: WithLora, record: RankRecord, path: Path, searched: RankRecord
) -> None:  # fmt: skip
    """Copies the searched components that `model` keeps at the ranks of `record`, and the search's head, from the file
    `path` into `model`.

    The rule and the shares in the record `searched` say which components a layer keeps. `model` then computes the same
    as the search's model with the other components removed. Raises UserError when the search trained other modules
    whole, or when layers or k of the ranks are not those of the search.
    """
    weights = load_file(path)
    places = [f"{_PREFIX}{name}.lora_A.{ADAPTER}.weight" for name in record.ranks]
    if any(place not in weights or len(weights[place]) != record.k for place in places):  # k is part of the scale
        raise UserError("--retrain.init: the ranks are of other layers, or have another k, than the search; allowed "
                        "here: scratch")  # fmt: skip
    state = dict(model.named_parameters())
    whole = {name for name, parameter in state.items() if parameter.requires_grad and ".lora_" not in name}
    if whole != {name for name in weights if ".lora_" not in name}:
        raise UserError("--lora.modules_to_save: --retrain.init search needs the modules that the search trained")
    for name in whole:
        state[name].copy_(weights[name])
    found = {layer.name: layer for layer in searched.layers}
    for name, layer in lora_layers(model).items():
        a, b = factors(layer)
        own_a, own_b = (weights[f"{_PREFIX}{name}.lora_{x}.{ADAPTER}.weight"] for x in "AB")
        chosen = chosen_components(dataclasses.replace(found[name], rank=len(a)), searched)
        # A searched component of size 0 has A = B = 0, where no gradient could move it: it keeps its fresh A instead.
        empty = own_a[chosen].abs().amax(dim=1, keepdim=True) == 0
        a.copy_(torch.where(empty.to(a.device), a, own_a[chosen].to(a)))
        b.copy_(own_b[:, chosen].to(b) * (config.lora.lora_alpha / record.k / layer.scaling[ADAPTER]))


@torch.no_grad()
def start_from_adapter(model: PeftModel, folder: Path) -> None:
    """Copies the LoRA and the head of the adapter in a folder into `model`, which then computes what the adapter does.

    Raises UserError if the adapter has other layers or ranks than the model, or trains other modules whole."""
    config, state = LoraConfig.from_pretrained(str(folder)), load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    ranks = {pair[0]: len(state[key]) for key in state if (pair := lora_pair(key)) and pair[1] == "A"}
    layers = lora_layers(model)
    if ranks != {name: layer.r[ADAPTER] for name, layer in layers.items()}:
        raise UserError(f"--retrain.init: {folder} has other layers or ranks; give --lora.ranks_from {folder}, too")
    trained = {name for name, value in model.named_parameters() if value.requires_grad and ".lora_" not in name}
    whole = {name.replace(f".modules_to_save.{ADAPTER}", "") for name in trained}
    if other := whole ^ {key for key in state if lora_pair(key) is None}:
        raise UserError(f"--lora.modules_to_save: only one of {folder} and this training trains {min(other)} whole")
    for name, rank in ranks.items():
        state[f"{_PREFIX}{name}.lora_B.weight"] *= scale_of(config, name, rank) / layers[name].scaling[ADAPTER]
    set_peft_model_state_dict(model, state, ADAPTER)
