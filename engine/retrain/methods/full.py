"""Full fine-tuning: every weight of the base model is trained."""

from __future__ import annotations

from transformers import PreTrainedModel

from engine.ranks import RankRecord
from engine.retrain.methods.base import Method, Prepared, Setting
from problems.models.load import BaseModel


class Full(Method):
    """The base model itself; what is kept is a whole model (merged/)."""

    def prepare(self, base: BaseModel, setting: Setting) -> Prepared:
        """Nothing is frozen."""
        return Prepared(base.model.requires_grad_(True))

    def save(self, prepared: Prepared, setting: Setting) -> RankRecord | None:
        """merged/: the model and the tokenizer."""
        assert isinstance(prepared.model, PreTrainedModel)
        prepared.model.save_pretrained(str(setting.folder.merged))
        setting.tokenizer.save_pretrained(str(setting.folder.merged))
        return None
