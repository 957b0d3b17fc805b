"""Start a retraining from the components that a search found, instead of fresh weights (`retrain.init`)."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.configs.schema import WithLora
from autolora.engine.cut.cut import lora_pair, scale_of
from autolora.engine.export.names import ADAPTER_WEIGHTS
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.record import chosen_components
from autolora.engine.retrain.components import Components
from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.parts import Group, groups_of, layout

_PREFIX = "base_model.model."


@torch.no_grad()
def start_from_search(model: PeftModel, config: WithLora, record: RankRecord, searched: Components) -> None:
    """Copies the searched components that `model` keeps at the ranks of `record`, and the search's head, into `model`.

    The rule and the shares in `searched.record` say which components a layer keeps. `model` then computes the same as
    the search's model with the other components removed. Raises UserError when the searched weights are missing or
    damaged, when the search trained other modules whole, when the ranks are those of other layers or above k, or when
    the record's k is not that of the search.
    """
    weights_file = searched.weights
    if not weights_file.exists():
        raise UserError(f"--retrain.init: 'search' needs {weights_file}; run --stage search, or use scratch")
    try:
        weights = load_file(weights_file)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"--retrain.init: {weights_file} cannot be read ({error}); run --stage search --overwrite, or use scratch"
        ) from error
    before, after = layout({x.name: record.k for x in record.layers}), layout(record.kept)
    found = {layer.name: layer for layer in searched.record.layers}
    if not set(before) == set(groups_of(_layers(weights), searched.targets)) == set(found):
        raise UserError("--retrain.init: 'search' needs ranks for exactly the searched layers; allowed here: scratch")
    _refuse_other_k(weights, before, record.k)
    state = dict(model.named_parameters())
    _copy_whole(weights, state)
    for layer in record.layers:
        if layer.rank == 0:
            continue
        own = dataclasses.replace(found[layer.name], rank=layer.rank)
        chosen = torch.tensor(chosen_components(own, searched.record))
        source, place = before[layer.name].components, after[layer.name]
        scale = (config.lora.lora_alpha / record.k) / lora_layers(model)[place.layer].scaling[ADAPTER]
        a, b = (f"{_PREFIX}{place.layer}.lora_{x}.{ADAPTER}.weight" for x in "AB")
        own_a = weights[a][source][chosen].to(state[a])
        # A searched component of size 0 has A = B = 0, where no gradient could move it: it keeps its fresh A instead.
        empty = own_a.abs().amax(dim=1, keepdim=True) == 0
        state[a][place.components] = torch.where(empty, state[a][place.components], own_a)
        state[b][:, place.components] = weights[b][:, source][:, chosen].to(state[b]) * scale


@torch.no_grad()
def start_from_adapter(model: PeftModel, folder: Path) -> None:
    """Copies the LoRA and the head of the adapter in a folder into `model`, which then computes what the adapter does.

    Raises UserError if the adapter cannot be read, or has other layers or ranks than the model."""
    try:
        config, state = LoraConfig.from_pretrained(str(folder)), load_file(folder / ADAPTER_WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"--retrain.init: {folder} holds no adapter that can be read ({error})") from error
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


def _refuse_other_k(searched: Mapping[str, Tensor], groups: Mapping[str, Group], k: int) -> None:
    """Refuses a k that the search did not have, as the scale of the components is lora_alpha / k."""
    for layer, count in Counter(group.layer for group in groups.values()).items():
        found = len(searched[f"{_PREFIX}{layer}.lora_A.{ADAPTER}.weight"]) // count
        if found != k:
            raise UserError(
                f"--retrain.init: 'search' needs k = {found} as in the search, but k is {k} (--lora.k, or k in "
                f"ranks.json); allowed here: scratch"
            )


def _copy_whole(searched: Mapping[str, Tensor], state: Mapping[str, nn.Parameter]) -> None:
    """Copies the modules that are trained whole. Raises UserError if the search trained others than the retraining."""
    whole = {name for name, parameter in state.items() if parameter.requires_grad and ".lora_" not in name}
    if whole != {name for name in searched if ".lora_" not in name} or any(
        state[name].shape != searched[name].shape for name in whole
    ):
        raise UserError(
            "--lora.modules_to_save: --retrain.init search needs the modules that the search trained, with as many "
            "classes; give the same ones, or --retrain.init scratch"
        )
    for name in whole:
        state[name].copy_(searched[name])


def _layers(searched: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers with LoRA in a search's weights."""
    ending = f".lora_A.{ADAPTER}.weight"
    return [name.removeprefix(_PREFIX).removesuffix(ending) for name in searched if name.endswith(ending)]
