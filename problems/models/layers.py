"""The layers of a model that can have LoRA: their names, their shapes, and which of them the targets name.

In a model that also reads images or sound, these are the layers of its text decoder. Rows of text do not pass through
the others: LoRA there would stay untrained and still count in the budget and in the mean rank. Left out are layers
outside the decoder (if the configuration names one) and layers of an inner model that reads no text. A projection in
the decoder that connects such a model can be named as a target, but all-linear leaves it out.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from peft import TaskType
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.configs.errors import UserError
from autolora.configs.schema import FUSED
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.body import bodies_of, in_body
from autolora.problems.models.parts import lies_in, matches, refuse_overlap, split
from autolora.problems.models.past_lora import reader_past_lora

log = logging.getLogger("autolora.inputs")

# PEFT trains modules of these names whole when the task is classification.
HEADS = ("classifier", "score")
MATRICES = (nn.Linear, Conv1D)
# Subclasses of nn.Linear of these names do not multiply by one matrix: they return several tensors, or have blocks.
_NO_MATRIX = ("Router", "GroupedLinear")


def heads_of_peft(task_type: Any) -> tuple[str, ...]:
    """The names that PEFT adds to `modules_to_save` by itself for a task of this type; a model need not have them."""
    return HEADS if task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else ()


def lora_layers_of(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Names of the layers, and of the parts of fused layers, that get LoRA under these settings.

    Raises UserError as `target_layers` does.
    """
    return target_layers(model, settings.target_modules, settings.modules_to_save or ())


def target_layers(model: PreTrainedModel, targets: Sequence[str], whole: Sequence[str] = ()) -> list[str]:
    """Names of the layers, and of the parts of fused layers, that `targets` name, in the model's order.

    `targets` are names or their endings, or all-linear alone. all-linear leaves out layers inside the modules `whole`
    (also names or endings). Raises UserError when a target matches nothing (listing the endings that exist) or a
    module that is not a matrix (naming its type), when a layer is named both whole and by part, and when all-linear
    finds no layer.
    """
    _tell_of_towers(model, targets)
    if means_all_linear(targets):
        return _all_linear(model, whole) or _refuse_none(model)
    names = list(layer_shapes(model))
    _refuse_others(model, targets)
    missing = [t for t in targets if not any(matches(name, t) for name in names)]
    if missing:
        raise UserError(
            f"--lora.target_modules: {', '.join(missing)} matches no module of {_searched(model)}; "
            f"there are: {_allowed(model)}"
        )
    found = named_layers(model, targets)
    refuse_overlap(found, "--lora.target_modules")
    return found


def named_layers(model: PreTrainedModel, targets: Sequence[str], whole: Sequence[str] = ()) -> list[str]:
    """The layers that `target_layers` returns, but without its refusals: a target that matches nothing is ignored."""
    if means_all_linear(targets):
        return _all_linear(model, whole)
    return [name for name in layer_shapes(model) if any(matches(name, t) for t in targets)]


def means_all_linear(targets: Sequence[str]) -> bool:
    """Whether the targets are PEFT's word for all linear layers."""
    return list(targets) == [ALL_LINEAR]


def _all_linear(model: PreTrainedModel, whole: Sequence[str]) -> list[str]:
    """Every linear layer of every block (a member of a ModuleList in the base model); a fused layer counts as one.

    A layer with a single output is left out: it is the gate of a shared expert, and its updates have rank 1 at most.
    Poolers, projections of embeddings, output embeddings and task heads lie outside the blocks. PEFT's own all-linear
    also takes poolers.
    """
    without_head = not bodies_of(model)
    blocks = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    left_out = _outputs(model)
    return [
        name
        for name, (outputs, _) in layer_shapes(model).items()
        if split(name)[1] is None
        and outputs > 1
        and name not in left_out
        and (without_head or in_body(model, name))
        and any(name.startswith(f"{block}.") for block in blocks)
        and not any(lies_in(name, module) for module in whole)
        and reader_past_lora(model, name) is None
    ]


def _refuse_none(model: PreTrainedModel) -> list[str]:
    readers = ((name, reader_past_lora(model, name)) for name in layer_shapes(model))
    past = (f" ({reader} reads the weight of {name} directly, without LoRA)" for name, reader in readers if reader)
    raise UserError(
        f"--lora.target_modules: {ALL_LINEAR} finds no linear layer in the blocks of {_searched(model)}"
        f"{next(past, '')}; there are: {_allowed(model) or 'none'}"
    )


def layer_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of every layer, and of every part of a fused one, that could take LoRA."""
    shapes = {}
    for name, module in _modules(model):
        # In linear layers (also quantised ones) and in Conv1D, A and B are matrices whose product the gates scale.
        if is_matrix(module) and not _in_head(name):
            outputs, inputs = shapes[name] = matrix_shape(module)
            shapes |= {part: (outputs // len(FUSED), inputs) for part in _parts(name, module)}
    return shapes


def is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies its input by one matrix, to which LoRA can be added."""
    return isinstance(module, MATRICES) and not type(module).__name__.endswith(_NO_MATRIX)


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules; of a model that also reads images or sound, those of its text decoder, without its towers."""
    text, towers = _text_decoder(model), _towers(model)
    return [
        (name, module)
        for name, module in model.named_modules()
        if (text is None or name.startswith(f"{text}.")) and not any(lies_in(name, tower) for tower in towers)
    ]


def _towers(model: nn.Module) -> list[str]:
    """The names of the models within a model that read no text, by what they say of themselves.

    They may lie in the decoder (Phi-4 multimodal), or in a model whose configuration has no part for text (GIT). A
    model that reads no text at all, such as a classifier of images, has no towers.
    """
    models = {name: _read_by(module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)}
    reads_text = any("text" in found for found in models.values())
    return [name for name, found in models.items() if name and "text" not in found] if reads_text else []


def _read_by(model: PreTrainedModel) -> tuple[str, ...]:
    """What a model reads: text, image, audio, ... Transformers has it as one word or as several."""
    found = model.input_modalities
    return (found,) if isinstance(found, str) else tuple(found)


def _text_decoder(model: nn.Module) -> str | None:
    """The name of the text decoder in a model that also reads images or sound; None for any other model."""
    there: Any = model
    if getattr(getattr(model, "config", None), "text_config", None) is None or not hasattr(model, "get_decoder"):
        return None
    decoder = there.get_decoder()
    # A model that is its own decoder has the name "".
    return next((name for name, module in model.named_modules() if module is decoder and name), None)


def _tell_of_towers(model: nn.Module, targets: Sequence[str]) -> None:
    """Logs that layers through which no text passes, and which the targets also name, get no LoRA."""
    inside, outputs = {name for name, _ in _modules(model)}, _outputs(model)
    others = [
        name
        for name, module in model.named_modules()
        if name not in inside
        and is_matrix(module)
        and not (name in outputs or _in_head(name))
        and (means_all_linear(targets) or any(matches(name, target) for target in targets))
    ]
    if others:
        text = _text_decoder(model)
        _tell("" if text is None else f", {text}", len(others), others[0])


@cache  # a run loads its model several times
def _tell(text: str, others: int, example: str) -> None:
    log.info(
        "LoRA only in the text decoder%s: %d linear layers outside it, such as %s, get none, as text does not pass "
        "through them", text, others, example,
    )  # fmt: skip


def refuse_large_k(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Raises UserError, naming the layer, when k exceeds the smaller side of a layer: no update has such a rank."""
    modules = dict(model.named_modules())
    for name in lora_layers_of(model, settings):
        layer, part = split(name)
        outputs, inputs = matrix_shape(modules[layer])
        smallest = min(outputs if part is None else outputs // len(FUSED), inputs)
        if settings.k > smallest:
            raise UserError(
                f"--lora.k: {settings.k} is not allowed for layer {name}; allowed: 1 to {smallest}, or "
                f"--lora.target_modules without this layer"
            )


def matrix_shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of a layer. The weight's shape may differ: 4 bits are packed, Conv1D stores [in, out]."""
    if hasattr(module, "out_features") and hasattr(module, "in_features"):
        return module.out_features, module.in_features
    rows, columns = module.weight.shape[:2]
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def _parts(layer: str, module: Any) -> list[str]:
    """Names of the parts of a fused layer: a Conv1D c_attn with outputs [query | key | value]. Empty for other layers.

    GPT-BigCode's linear c_attn has other blocks, and a cross-attention's c_attn has no query. A layer in 4 bits keeps
    its former class in `source_cls`.
    """
    if layer.rpartition(".")[2] != "c_attn" or not issubclass(getattr(module, "source_cls", type(module)), Conv1D):
        return []
    outputs, inputs = matrix_shape(module)
    return [f"{layer}.{part}" for part in FUSED] if outputs == len(FUSED) * inputs else []


def name_of(model: nn.Module) -> str:
    """The name under which a model was loaded, or the name of its class if it has no configuration of transformers."""
    return getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__


def _searched(model: nn.Module) -> str:
    """Where the targets are looked for, for a message."""
    text = _text_decoder(model)
    return name_of(model) if text is None else f"the text decoder ({text}) of {name_of(model)}"


def _outputs(model: nn.Module) -> set[str]:
    """The names of the output embeddings (lm_head)."""
    there: Any = model
    output = there.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {name for name, module in model.named_modules() if output is not None and module is output}


def _allowed(model: nn.Module) -> str:
    """The endings that a user may give as targets, for a message."""
    allowed = set(layer_shapes(model)) - _outputs(model)
    return _endings(name for name in allowed if reader_past_lora(model, name) is None)


def _ending(name: str) -> str:
    """What a user would write for all layers of this kind: `query`, `c_attn.q`."""
    layer, part = split(name)
    ending = layer.rpartition(".")[2]
    return ending if part is None else f"{ending}.{part}"


def _endings(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(map(_ending, names))))


def _in_head(name: str) -> bool:
    """Whether a module lies in a task head, which PEFT trains whole."""
    return any(part in HEADS for part in name.split("."))


def _refuse_others(model: nn.Module, targets: Sequence[str]) -> None:
    """Raises UserError for a target that names a module which has weights but cannot take LoRA.

    Such modules are convolutions (their components lie along another axis), embeddings (there is no product to gate),
    norms and routers.
    """
    for name, module in _modules(model):
        target = next((target for target in targets if matches(name, target)), None)
        if target is None or is_matrix(module) or _in_head(name):
            continue
        if any(True for _ in module.parameters(recurse=False)):
            raise UserError(
                f"--lora.target_modules: {target} is not allowed, as {name} is of type {type(module).__name__}; "
                f"allowed: layers of type {' or '.join(kind.__name__ for kind in MATRICES)}"
            )


def refuse_past_lora(model: PreTrainedModel, layers: Sequence[str]) -> None:
    """Raises UserError for a layer whose weight the model reads itself, without its LoRA."""
    for name in layers:
        if reader := reader_past_lora(model, name):
            raise UserError(
                f"--lora.target_modules: {name} is not allowed, as {reader} reads its weight directly, without LoRA; "
                f"allowed: {_allowed(model) or 'no layer of this model'}"
            )
