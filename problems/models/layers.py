"""The layers of a model that can have LoRA: their names, their shapes, and which of them the targets name."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs.errors import UserError
from configs.rules import FUSED
from configs.schema import LoraSettings
from problems.models.parts import matches, refuse_overlap, split

# PEFT trains modules of these names whole when the task is classification.
HEADS = ("classifier", "score")
MATRICES = (nn.Linear, Conv1D)
# Their kernels read the weight of out_proj itself, past its LoRA, and PEFT refuses it there.
_MAMBAS = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")


def target_layers(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """Names of the layers, and of the parts of fused ones, that `targets` (names or their endings) match, in the
    model's order.

    Raises UserError when a target matches nothing (with the endings that exist) or a module that is no matrix (with
    its type), and when a layer is named both whole and by part.
    """
    names = list(layer_shapes(model))
    _refuse_others(model, targets)
    missing = [t for t in targets if not any(matches(name, t) for name in names)]
    if missing:
        raise UserError(
            f"--lora.target_modules: {', '.join(missing)} matches no module of {model.config.name_or_path}; "
            f"there are: {', '.join(sorted(set(map(_ending, names))))}"
        )
    found = [name for name in names if any(matches(name, t) for t in targets)]
    refuse_overlap(found, "--lora.target_modules")
    return found


def layer_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of every layer, and of every part of a fused one, that could take LoRA."""
    shapes = {}
    for name, module in model.named_modules():
        # Linear layers, quantised ones too, and Conv1D: there A and B are matrices whose product the gates scale.
        if isinstance(module, MATRICES) and not _in_head(name):
            outputs, inputs = shapes[name] = matrix_shape(module)
            shapes |= {part: (outputs // len(FUSED), inputs) for part in _parts(name, module)}
    return shapes


def refuse_large_k(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Raises UserError, naming the layer, when k exceeds the smaller side of a layer: its update has no such rank."""
    modules = dict(model.named_modules())
    for name in target_layers(model, settings.target_modules):
        layer, part = split(name)
        outputs, inputs = matrix_shape(modules[layer])
        smallest = min(outputs if part is None else outputs // len(FUSED), inputs)
        if settings.k > smallest:
            raise UserError(f"--lora.k: {settings.k} is not allowed for layer {name}; allowed: 1 to {smallest}")


def matrix_shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of a layer. The weight's shape may differ: 4 bits are packed, Conv1D stores [in, out]."""
    if hasattr(module, "out_features") and hasattr(module, "in_features"):
        return module.out_features, module.in_features
    rows, columns = module.weight.shape[:2]
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def _parts(layer: str, module: Any) -> list[str]:
    """Names of the parts of a fused layer, a Conv1D c_attn with outputs [query | key | value]; none of other layers.

    GPT-BigCode's linear c_attn has other blocks, and a cross-attention's has no query. A layer in 4 bits has the class
    of before in `source_cls`.
    """
    if layer.rpartition(".")[2] != "c_attn" or not issubclass(getattr(module, "source_cls", type(module)), Conv1D):
        return []
    outputs, inputs = matrix_shape(module)
    return [f"{layer}.{part}" for part in FUSED] if outputs == len(FUSED) * inputs else []


def _ending(name: str) -> str:
    """What a user would write for all layers of this kind: `query`, `c_attn.q`."""
    layer, part = split(name)
    ending = layer.rpartition(".")[2]
    return ending if part is None else f"{ending}.{part}"


def _in_head(name: str) -> bool:
    """Whether a module lies in a task head, which PEFT trains whole."""
    return any(part in HEADS for part in name.split("."))


def _refuse_others(model: nn.Module, targets: Sequence[str]) -> None:
    """Raises UserError for a target that names a module with weights of its own that takes no LoRA.

    Such are a convolution, whose components lie along another axis; an embedding, which has no product to gate; a
    norm; a router.
    """
    for name, module in model.named_modules():
        target = next((target for target in targets if matches(name, target)), None)
        if target is None or isinstance(module, MATRICES) or _in_head(name):
            continue
        if any(True for _ in module.parameters(recurse=False)):
            raise UserError(
                f"--lora.target_modules: {target} is not allowed, as {name} is of type {type(module).__name__}; "
                f"allowed: layers of type {' or '.join(kind.__name__ for kind in MATRICES)}"
            )


def refuse_past_lora(model: PreTrainedModel, layers: Sequence[str]) -> None:
    """Raises UserError for a layer whose weight the model reads itself, without its LoRA."""
    kind = model.config.model_type
    for name in layers if kind in _MAMBAS else ():
        if _ending(name) == "out_proj":
            raise UserError(
                f"--lora.target_modules: {name} is not allowed, as a model of type {kind} reads its weight past LoRA; "
                f"allowed: {', '.join(sorted({_ending(x) for x in layer_shapes(model)} - {'out_proj'}))}"
            )
