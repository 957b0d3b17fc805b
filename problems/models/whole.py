"""Modules that are trained whole beside LoRA and the new task head: PEFT's modules_to_save."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.problems.models.layers import HEADS, name_of, named_layers
from autolora.problems.models.load import BaseModel
from autolora.problems.models.parts import matches, split

log = logging.getLogger("autolora.inputs")

_KEY = "--lora.modules_to_save"
_POOLER = "pooler"
_OF_PEFT = (
    "base_layer", "lora_dropout", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
    "default",
)  # fmt: skip
"""The names of the modules that PEFT puts into a layer with LoRA."""


def with_modules_to_save(base: BaseModel, given: Sequence[str] | None, targets: Sequence[str]) -> BaseModel:
    """`base` with the modules `given` (`lora.modules_to_save`) among those trained whole. `targets`: where LoRA sits.

    The modules are listed by their full names, as PEFT compares only the ends of names: given `norm`, it would also
    train `input_layernorm`.

    Raises UserError for a name that matches no module with weights; for a module that lies inside another module
    trained whole, or contains one or a LoRA layer; for weights in 4 bits; and for weights that another module shares,
    as only one of the two would be trained.
    """
    model = base.model
    wanted = untrained_poolers(model, targets) if given is None else given
    found = {name: _matching(model, name) for name in wanted if name not in base.trained_whole}
    missing = [name for name, modules in found.items() if not modules]
    if missing:
        raise UserError(
            f"{_KEY}: {', '.join(missing)} matches no module of {name_of(model)}; there are: "
            f"{', '.join(_endings(model))}"
        )
    heads = {module for name in (*base.trained_whole, *HEADS) for module in _matching(model, name)}
    whole = [module for modules in found.values() for module in modules if module not in heads]
    for name in whole:
        _refuse_inside(name, _lora_layers(model, targets, given or ()), "LoRA layer")
        _refuse_inside(name, [other for other in (*whole, *heads) if other != name], "module trained whole")
        around = [head for head in heads if name.startswith(f"{head}.")]
        if around:
            raise UserError(f"{_KEY}: {name} is not allowed, as it lies inside {around[0]}, which is trained whole")
        _refuse_weights(model, name)
        _refuse_ending(model, name, [*base.trained_whole, *whole])
    return dataclasses.replace(base, trained_whole=[*base.trained_whole, *dict.fromkeys(whole)]) if whole else base


def head_alone(base: BaseModel) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """The base model, frozen except for the modules that are trained whole, and their weights (empty if none are)."""
    model = base.model.requires_grad_(False)
    for module in {module for name in base.trained_whole for module in _matching(model, name)}:
        model.get_submodule(module).requires_grad_(True)
    return model, [weight for weight in model.parameters() if weight.requires_grad]


def untrained_poolers(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The pooler, if its bias is still 0: it was never trained, as in sentence encoders, which average tokens instead.

    Frozen, it would hide nearly everything from the task head, so it is trained as a part of the head.
    """
    for name in _matching(model, _POOLER):
        dense = getattr(model.get_submodule(name), "dense", None)
        if not isinstance(dense, nn.Linear) or dense.bias is None or not dense.weight.is_floating_point():
            continue
        if not dense.bias.any() and not any(x.startswith(f"{name}.") for x in _lora_layers(model, targets, ())):
            return [name]
    return []


def _lora_layers(model: PreTrainedModel, targets: Sequence[str], whole: Sequence[str]) -> list[str]:
    return [split(name)[0] for name in named_layers(model, targets, whole)]


def _matching(model: PreTrainedModel, ending: str) -> list[str]:
    return [name for name in _with_weights(model) if matches(name, ending)]


def _endings(model: PreTrainedModel) -> list[str]:
    """The last words of the names of modules with weights, which a user may write for them."""
    last_words = {name.rpartition(".")[2] for name in _with_weights(model)}
    return sorted(word for word in last_words if word and not word.isdigit())


def _with_weights(model: PreTrainedModel) -> Iterator[str]:
    return (name for name, module in model.named_modules() if any(True for _ in module.parameters()))


def _refuse_inside(name: str, others: Sequence[str], what: str) -> None:
    for other in others:
        if other == name or other.startswith(f"{name}."):
            raise UserError(f"{_KEY}: {name} is not allowed, as it contains {other}, a {what}; name smaller modules")


def _refuse_ending(model: PreTrainedModel, name: str, whole: Sequence[str]) -> None:
    """Raises UserError if PEFT would train another module, too: one whose name ends in this one, also without a dot
    before it. PEFT's own modules count, as it makes LoRA first; for a module at the top there is no longer name."""
    own = next((x for x in _OF_PEFT if x.endswith(name)), None)
    if own is not None:
        raise UserError(f"{_KEY}: {name} is not allowed, as PEFT would take its own {own}, whose name ends like it, "
                        f"for it; rename the module, or put it inside another one")  # fmt: skip
    other = next((x for x in _with_weights(model) if x.endswith(name) and x not in whole), None)
    if other is not None:
        raise UserError(f"{_KEY}: {name} is not allowed, as PEFT would train {other}, whose name ends like it, too; "
                        f"rename one of them, or name both")  # fmt: skip


def _refuse_weights(model: PreTrainedModel, name: str) -> None:
    own = {id(parameter): parameter for parameter in model.get_submodule(name).parameters()}
    if not all(parameter.is_floating_point() for parameter in own.values()):
        raise UserError(f"{_KEY}: {name} is not allowed, as its weights are in 4 bits and cannot be trained")
    for other, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in own and not other.startswith(f"{name}."):
            raise UserError(f"{_KEY}: {name} is not allowed, as it shares its weights with {other}")


def tell_of_pooler(base: BaseModel, targets: Sequence[str]) -> None:
    """Logs that an untrained pooler is trained, or warns that it stays frozen. `targets`: where LoRA sits."""
    for pooler in untrained_poolers(base.model, targets):
        what = f"the model's {pooler} was never trained (its bias is all 0)"
        if any(matches(pooler, name) for name in base.trained_whole):
            log.info("%s: it is trained like the task head", what)
        else:
            log.warning('%s and stays frozen; --lora.modules_to_save null, or "[pooler]", trains it', what)
