"""Which part of a model with a head is the base model."""

from torch import nn
from transformers import PreTrainedModel


def body_of(model: nn.Module) -> str:
    """The name of the base model inside a model with a head; "" if there is none.

    It is the model's `base_model_prefix`, but code of a repository's own may keep it under another name: then it is
    the child that is a model itself.
    """
    prefix: str = getattr(model, "base_model_prefix", "")
    if prefix and hasattr(model, prefix):
        return prefix
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), "")
