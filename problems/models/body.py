"""Which part of a model with a head is the base model."""

from torch import nn
from transformers import PreTrainedModel


def bodies_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the children that are the base model of a model with a head; none if the model has no head.

    It is one child, named by the model's `base_model_prefix`. If there is no child of this name, it is all children
    that are models themselves: the encoder and the decoder of T5ForConditionalGeneration, or the one child that a
    repository's own code calls otherwise.
    """
    prefix: str = getattr(model, "base_model_prefix", "")
    if prefix and hasattr(model, prefix):
        return (prefix,)
    return tuple(name for name, child in model.named_children() if isinstance(child, PreTrainedModel))


def in_body(model: nn.Module, name: str) -> bool:
    """Whether a module or weight of this name lies in the base model; False for all of a model without a head."""
    return name.startswith(tuple(f"{body}." for body in bodies_of(model)))
