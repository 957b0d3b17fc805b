"""Methods without LoRA: every weight is trained, or only what a LoRA run trains whole, such as the
head."""

from typing import Any

from autolora.engine.export.adapter import save_whole
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.layers import head_alone
from autolora.problems.models.load import BaseModel


def full(base: BaseModel, run: Context) -> Prepared:
    """Trains the base model itself, and saves all of it in merged/."""
    return _whole(base.model.requires_grad_(True), run)


def head(base: BaseModel, run: Context) -> Prepared:
    """Freezes everything but the task head and the other modules that are trained whole. What a
    LoRA run gains over this is due to LoRA. Saves the model in merged/, unless nothing was
    trained."""
    model, _ = head_alone(base)
    return Prepared(model) if run.config.evaluates_base else _whole(model, run)


def _whole(model: Any, run: Context) -> Prepared:
    return Prepared(
        model, save=lambda: save_whole(model, run.tokenizer, run.folder.merged, run.ends)
    )
