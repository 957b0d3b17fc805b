"""Which layers of a model get LoRA, and which modules are trained whole beside it.

A layer counts only where the rows of a run pass through it (`dry_run.py` marks the others): of a
model that also reads images or sound, rows of text reach the text decoder alone. LoRA elsewhere
would stay untrained and still count in the budget and in the mean rank.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from peft import TaskType
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.configs.errors import UserError
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.load import BaseModel, bodies_of, in_body
from autolora.problems.models.names import lies_in, matches

# PEFT trains modules of these names whole when the task is classification.
HEADS = ("classifier", "score")
# Subclasses of nn.Linear of these names do not multiply by one matrix: they return several tensors,
# or have blocks.
_NO_MATRIX = ("Router", "GroupedLinear")


def heads_of_peft(task_type: Any) -> tuple[str, ...]:
    """The names that PEFT adds to `modules_to_save` by itself for a task of this type; a model need
    not have them."""
    return HEADS if task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else ()


def lora_layers_of(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Names of the layers that get LoRA under these settings.

    Raises UserError as `target_layers` does.
    """
    return target_layers(model, settings.target_modules, settings.modules_to_save or ())


def target_layers(
    model: PreTrainedModel, targets: Sequence[str], whole: Sequence[str] = ()
) -> list[str]:
    """Names of the layers that `targets` name, in the model's order.

    `targets` are names or their endings, or all-linear alone, which leaves out layers inside the
    modules `whole` (also names or endings). Raises UserError when a target matches no layer that
    can have LoRA.
    """
    shapes = layer_shapes(model)
    if list(targets) == [ALL_LINEAR]:
        found = _all_linear(model, shapes, whole)
        missing = [] if found else [ALL_LINEAR]
    else:
        found = [name for name in shapes if any(matches(name, target) for target in targets)]
        missing = [target for target in targets if not any(matches(name, target) for name in found)]
    if missing:
        raise UserError(
            f"--lora.target_modules: {', '.join(missing)} matches no linear layer that the "
            f"rows pass through in {name_of(model)}; there are: {_endings(shapes)}"
        )
    return found


def _all_linear(
    model: PreTrainedModel, shapes: dict[str, tuple[int, int]], whole: Sequence[str]
) -> list[str]:
    """Every linear layer of every block (a member of a ModuleList in the base model).

    A layer with a single output is left out: it is the gate of a shared expert, and its updates
    have rank 1 at most. Poolers, projections of embeddings, output embeddings and task heads lie
    outside the blocks. PEFT's own all-linear also takes poolers.
    """
    blocks = tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    )
    body = bodies_of(model)
    return [
        name
        for name, shape in shapes.items()
        if name.startswith(blocks)
        and (not body or in_body(model, name))
        and shape[0] > 1
        and not any(lies_in(name, module) for module in whole)
    ]


def layer_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of every layer that could take LoRA."""
    return {
        name: _shape(module)
        for name, module in model.named_modules()
        if is_matrix(module)
        and getattr(module, "reached", True)
        and not set(name.split(".")) & set(HEADS)
    }


def is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies its input by one matrix, to which LoRA can be added, also one in
    4 bits."""
    return isinstance(module, nn.Linear | Conv1D) and not type(module).__name__.endswith(_NO_MATRIX)


def _shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of a layer; a weight in 4 bits has another shape."""
    return (
        (module.nf, module.nx)
        if isinstance(module, Conv1D)
        else (module.out_features, module.in_features)
    )


def refuse_large_k(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Raises UserError, naming the layer, when k exceeds the smaller side of a layer: no update has
    such a rank."""
    shapes = layer_shapes(model)
    for name in lora_layers_of(model, settings):
        if settings.k > min(shapes[name]):
            raise UserError(
                f"--lora.k: {settings.k} is not allowed for layer {name}; allowed: 1 to "
                f"{min(shapes[name])}, or --lora.target_modules without this layer"
            )


def name_of(model: nn.Module) -> str:
    """The name under which a model was loaded, or the name of its class if it has no configuration
    of transformers."""
    return getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__


def _endings(names: Iterable[str]) -> str:
    """What a user would write for these modules: `query`."""
    return ", ".join(sorted({name.rpartition(".")[2] for name in names} - {""})) or "none"


def with_modules_to_save(
    base: BaseModel, given: Sequence[str] | None, targets: Sequence[str]
) -> BaseModel:
    """`base` with the modules `given` (`lora.modules_to_save`; None: an untrained pooler) among
    those trained whole. `targets`: where LoRA sits.

    The modules are listed by their full names, as PEFT compares only the ends of names: given
    `norm`, it would also train `input_layernorm`. Raises UserError for a name that matches no
    module with weights.
    """
    model = base.model
    wanted = _untrained_poolers(model, targets) if given is None else given
    found = {name: modules_named(model, name) for name in wanted}
    if missing := [name for name, modules in found.items() if not modules]:
        raise UserError(
            f"--lora.modules_to_save: {', '.join(missing)} matches no module of "
            f"{name_of(model)}; there are: {_endings(with_weights(model))}"
        )
    heads = {module for name in HEADS for module in modules_named(model, name)}
    more = [module for modules in found.values() for module in modules if module not in heads]
    return dataclasses.replace(
        base, trained_whole=list(dict.fromkeys([*base.trained_whole, *more]))
    )


def _untrained_poolers(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The pooler, if its bias is still 0: it was never trained, as in sentence encoders, which
    average tokens instead.

    Frozen, it would hide nearly everything from the task head, so it is trained as a part of the
    head.
    """
    for name in modules_named(model, "pooler"):
        dense: Any = getattr(model.get_submodule(name), "dense", None)
        if isinstance(dense, nn.Linear) and dense.bias is not None and not dense.bias.any():
            return [] if any(matches(f"{name}.dense", target) for target in targets) else [name]
    return []


def modules_named(model: nn.Module, name: str) -> list[str]:
    """The full names of the modules with weights that have this name, or whose names end in it
    after a dot."""
    return [full for full in with_weights(model) if matches(full, name)]


def with_weights(model: nn.Module) -> list[str]:
    """The full names of the modules that have weights, or hold modules that do."""
    return [
        name for name, module in model.named_modules() if any(True for _ in module.parameters())
    ]


def head_alone(base: BaseModel) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """The base model, frozen except for the modules that are trained whole, and their weights
    (empty if none are)."""
    model = base.model.requires_grad_(False)
    for name in base.trained_whole:
        model.get_submodule(name).requires_grad_(True)
    return model, [weight for weight in model.parameters() if weight.requires_grad]
