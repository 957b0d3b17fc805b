"""A baseline that trains only the task head on the frozen base model; without a head, it evaluates the base model."""

from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.engine.export.merged import save_whole
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain.methods.base import Method, Prepared, head_of
from autolora.engine.run.context import Context
from autolora.problems.models.layers import head_alone
from autolora.problems.models.load import BaseModel


class Head(Method):
    """Trains only what a LoRA run trains whole, such as the head. What a LoRA run gains over this is due to LoRA."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Freezes everything but the task head and the other modules that are trained whole.

        Raises UserError if nothing is to be trained, but the model came without some of its weights.
        """
        if run.config.evaluates_base and base.trained_whole:
            missing = ", ".join(base.trained_whole)
            raise UserError(
                f"--method: 'head' is not allowed here, as {run.config.model.name} came without weights of {missing}, "
                f'which would stay random; --lora.modules_to_save "[{missing}]" trains them'
            )
        head = head_of(base)
        model, _ = head_alone(base)
        return Prepared(model, head=head)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes the model and the tokenizer to merged/; writes nothing if nothing was trained."""
        assert isinstance(prepared.model, PreTrainedModel)
        if not run.config.evaluates_base:
            save_whole(prepared.model, run.tokenizer, run.folder.merged, run.ends)
        return None
