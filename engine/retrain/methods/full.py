"""Full fine-tuning: every weight of the base model is trained."""

from transformers import PreTrainedModel

from engine.export.merged import save_whole
from engine.ranks import RankRecord
from engine.retrain.methods.base import Method, Prepared
from engine.run.context import Context
from problems.models.load import BaseModel


class Full(Method):
    """The base model itself; what is kept is a whole model (merged/)."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Nothing is frozen."""
        return Prepared(base.model.requires_grad_(True))

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """merged/: the model and the tokenizer."""
        assert isinstance(prepared.model, PreTrainedModel)
        save_whole(prepared.model, run.tokenizer, run.folder.merged)
        return None
