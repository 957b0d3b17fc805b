"""Methods without LoRA: every weight is trained, or only what a LoRA run trains whole, such as the
head."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from autolora.engine.export.adapter import Export, save_whole
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.models.layers import head_alone
from autolora.problems.models.load import BaseModel


@dataclass(frozen=True)
class FullTraining:
    """Trains the base model itself, and saves all of it in merged/."""

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        model = base.model
        model.requires_grad_(True)
        return _whole(model)


@dataclass(frozen=True)
class HeadAlone:
    """Freezes everything but the task head and the other modules that are trained whole. What a
    LoRA run gains over this is due to LoRA. Saves the model in merged/, unless there is nothing to
    train."""

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        model, weights = head_alone(base)
        return _whole(model) if weights else Prepared(model)


def _whole(model: PreTrainedModel) -> Prepared:
    def save(root: Path, export: Export) -> None:
        save_whole(model, export.tokenizer, root / "merged", export.ends)

    return Prepared(model, save=save)
