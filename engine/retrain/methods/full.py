"""Full fine-tuning: every weight of the base model is trained."""

from transformers import PreTrainedModel

from autolora.engine.export.merged import save_whole
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain.methods.base import Method, Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.load import BaseModel


class Full(Method):
    """Trains the base model itself and saves the whole model in merged/."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Makes every weight trainable."""
        return Prepared(base.model.requires_grad_(True))

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes the model and the tokenizer to merged/."""
        assert isinstance(prepared.model, PreTrainedModel)
        save_whole(prepared.model, run.tokenizer, run.folder.merged, run.ends)
        return None
