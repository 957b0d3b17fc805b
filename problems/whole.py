"""Modules that are trained whole beside LoRA and the new task head: PEFT's modules_to_save."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from transformers import PreTrainedModel

from configs.errors import UserError
from configs.schema import LoraSettings
from problems.layers import target_layers
from problems.models import BaseModel
from problems.parts import split

_KEY = "--lora.modules_to_save"


def with_modules_to_save(base: BaseModel, settings: LoraSettings) -> BaseModel:
    """`base` with `lora.modules_to_save` among the modules trained whole.

    Raises UserError for a name that matches no module with weights, for a module inside another one or with LoRA in
    it, and for weights that another module shares: a trained copy would part them.
    """
    wanted = [name for name in settings.modules_to_save if name not in base.trained_whole]
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
    heads = [name for known in base.trained_whole for name in _matching(base.model, known)]
    lora = [split(layer)[0] for layer in target_layers(base.model, settings.target_modules)]
    for name in whole:
        for other, what in [(x, "LoRA layer") for x in lora] + [(x, "module trained whole") for x in whole + heads]:
            if other.startswith(f"{name}.") or (other == name and what == "LoRA layer"):
                raise UserError(f"{_KEY}: {name} is not allowed, as {other} in it is a {what}; name smaller modules")
        _refuse_shared(base.model, name)
    return dataclasses.replace(base, trained_whole=[*base.trained_whole, *wanted])


def _matching(model: PreTrainedModel, ending: str) -> list[str]:
    return [name for name in _with_weights(model) if name == ending or name.endswith(f".{ending}")]


def _endings(model: PreTrainedModel) -> list[str]:
    """What a user would write for the modules that there are."""
    last_words = {name.rpartition(".")[2] for name in _with_weights(model)}
    return sorted(word for word in last_words if word and not word.isdigit())


def _with_weights(model: PreTrainedModel) -> Iterator[str]:
    return (name for name, module in model.named_modules() if any(True for _ in module.parameters()))


def _refuse_shared(model: PreTrainedModel, name: str) -> None:
    inside = {id(parameter) for parameter in model.get_submodule(name).parameters()}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in inside and not other.startswith(f"{name}."):
            raise UserError(f"{_KEY}: {name} is not allowed, as it shares its weights with {other}")
