"""Only the task head is trained, on the frozen base model; a model without one is evaluated as it is. A baseline."""

from transformers import PreTrainedModel

from configs.errors import UserError
from configs.rules import evaluates_base
from engine.export.merged import save_whole
from engine.ranks import RankRecord
from engine.retrain.methods.base import Method, Prepared, head_of
from engine.run.context import Context
from problems.models.load import BaseModel
from problems.models.whole import head_alone


class Head(Method):
    """The task head and the other modules that are trained whole beside LoRA: what LoRA adds to them is its own."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Everything else is frozen.

        Raises UserError for a model that is to be evaluated as it is, but came without some of its weights.
        """
        if evaluates_base(run.config) and base.trained_whole:
            missing = ", ".join(base.trained_whole)
            raise UserError(
                f"--method: 'head' is not allowed here, as {run.config.model.name} came without weights of {missing}, "
                f"which would stay random; --lora.modules_to_save [{missing}] trains them"
            )
        head = head_of(base)
        model, _ = head_alone(base)
        return Prepared(model, head=head)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """merged/: the model and the tokenizer; nothing where the base model is what it was."""
        assert isinstance(prepared.model, PreTrainedModel)
        if not evaluates_base(run.config):
            save_whole(prepared.model, run.tokenizer, run.folder.merged)
        return None
