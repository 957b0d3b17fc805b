"""Modules that are trained whole beside LoRA and the new task head: PEFT's modules_to_save."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel

from configs.errors import UserError
from configs.schema import LoraSettings
from problems.layers import target_layers
from problems.models import BaseModel
from problems.parts import split

_KEY = "--lora.modules_to_save"
_POOLER = "pooler"


def with_modules_to_save(base: BaseModel, settings: LoraSettings) -> BaseModel:
    """`base` with `lora.modules_to_save` among the modules trained whole.

    Raises UserError for a name that matches no module with weights, for a module inside another one or with LoRA in
    it, for weights in 4 bits, and for weights that another module shares: a trained copy would part them.
    """
    given = settings.modules_to_save
    wanted = _untrained_poolers(base.model, settings) if given is None else given
    wanted = [name for name in wanted if name not in base.trained_whole]
    if not wanted:
        return base
    found = {name: _matching(base.model, name) for name in wanted}
    missing = [name for name in wanted if not found[name]]
    if missing:
        raise UserError(
            f"{_KEY}: {', '.join(missing)} matches no module of {base.model.config.name_or_path}; there are: "
            f"{', '.join(_endings(base.model))}"
        )
    whole = [name for names in found.values() for name in names]
    known = [name for ending in base.trained_whole for name in _matching(base.model, ending)]
    for name in whole:
        _refuse_inside(name, _lora_layers(base.model, settings), "LoRA layer")
        _refuse_inside(name, [other for other in whole + known if other != name], "module trained whole")
        _refuse_4bit(base.model, name)
        _refuse_shared(base.model, name)
    return dataclasses.replace(base, trained_whole=[*base.trained_whole, *wanted])


def _untrained_poolers(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """[pooler] where no training has moved the bias of the model's pooler from 0, as in encoders of sentences that are
    used by the mean of their tokens. Frozen, it would let the task head see next to nothing: it is part of a new head.
    """
    with_lora = _lora_layers(model, settings)
    for name in _matching(model, _POOLER):
        dense = getattr(model.get_submodule(name), "dense", None)
        if not isinstance(dense, nn.Linear) or dense.bias is None or not dense.weight.is_floating_point():
            continue
        if not dense.bias.any() and not any(layer.startswith(f"{name}.") for layer in with_lora):
            return [_POOLER]
    return []


def _lora_layers(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    return [split(layer)[0] for layer in target_layers(model, settings.target_modules)]


def _matching(model: PreTrainedModel, ending: str) -> list[str]:
    return [name for name in _with_weights(model) if name == ending or name.endswith(f".{ending}")]


def _endings(model: PreTrainedModel) -> list[str]:
    """What a user would write for the modules that there are."""
    last_words = {name.rpartition(".")[2] for name in _with_weights(model)}
    return sorted(word for word in last_words if word and not word.isdigit())


def _with_weights(model: PreTrainedModel) -> Iterator[str]:
    return (name for name, module in model.named_modules() if any(True for _ in module.parameters()))


def _refuse_inside(name: str, others: Sequence[str], what: str) -> None:
    for other in others:
        if other == name or other.startswith(f"{name}."):
            raise UserError(f"{_KEY}: {name} is not allowed, as {other} in it is a {what}; name smaller modules")


def _refuse_4bit(model: PreTrainedModel, name: str) -> None:
    if not all(parameter.is_floating_point() for parameter in model.get_submodule(name).parameters()):
        raise UserError(f"{_KEY}: {name} is not allowed, as its weights are in 4 bits and cannot be trained")


def _refuse_shared(model: PreTrainedModel, name: str) -> None:
    inside = {id(parameter) for parameter in model.get_submodule(name).parameters()}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in inside and not other.startswith(f"{name}."):
            raise UserError(f"{_KEY}: {name} is not allowed, as it shares its weights with {other}")
