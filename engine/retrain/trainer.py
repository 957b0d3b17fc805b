"""transformers.Trainer with this program's order of rows, mean losses over labels, and autocast in training only."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer_utils import PredictionOutput

from autolora.engine.retrain.common_numbers import CommonMasks
from autolora.engine.retrain.label_mean import LabelMean
from autolora.engine.retrain.sharding import shared_batches
from autolora.problems.data import LengthGroupedOrder
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.tasks.labels import IGNORED


class RetrainTrainer(Trainer):
    """Trainer with a reproducible order of rows, a loss over labels, and evaluation in the weights' own precision.

    The order of rows depends only on the seed and the epoch, so that a resumed run sees the same rows. A step
    minimises the mean loss over all labels of its rows, however these rows are split into batches and among processes.

    Each of several processes takes its own rows of the same batches. Trainer's own sharding would pad the last batch
    of an epoch, and give parts with unequal numbers of labels the same weight.

    Evaluation ignores the precision of the training: bf16 has too few distinct values to rank predictions. Trainer's
    option bf16 would leave autocast on in the model's forward, and so in evaluation and decoding, too.
    """

    def __init__(self, *args: Any, compute: Compute, processes: Processes = ALONE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.compute = compute
        self.processes = processes
        self.mean_loss = LabelMean(0, processes)
        # Trainer assumes that a model whose forward takes **kwargs divides its loss by num_items_in_batch. Most models
        # with a class head do not: their gradients would be too large, by a factor of the number of accumulated
        # batches.
        self.model_accepts_loss_kwargs = False
        self.loss_sum: Any = 0.0
        model: Any = self.model
        self.masks = CommonMasks(model, self.args.seed, processes.rank)

    def get_train_dataloader(self) -> Any:
        if self.processes.size == 1:
            return super().get_train_dataloader()
        return shared_batches(self.train_dataset, self._order(), self.data_collator, self.processes)

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """The batches of one step and, if there are several, the number of their labels (for one batch it is not
        needed, and copying it from a GPU would take time)."""
        batches, _ = super().get_batch_samples(*args, **options)
        return batches, sum(map(_labels, batches)) if len(batches) > 1 else None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        share = inputs.pop("share", None)
        if share is not None:
            # DDP averages the gradients over the processes; this factor turns the mean into the sum.
            return super().compute_loss(model, inputs) * share * self.processes.size
        if num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs)
        batches = self.current_gradient_accumulation_steps  # Trainer divides the loss by their number
        return super().compute_loss(model, inputs) * _labels(inputs) * batches / num_items_in_batch

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """The context in which Trainer runs a forward pass and its loss: autocast in training only."""
        model: Any = self.model
        return self.compute.autocast() if model.training else nullcontext()

    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> PredictionOutput:
        """Like Trainer's, but eval_loss is the mean over all labels.

        Rows of similar length share a batch, so that little of it is padding; the longest come first, so that a batch
        that does not fit into memory fails at the start. The outputs are in the order of the rows."""
        self.mean_loss = LabelMean(len(test_dataset), self.processes)
        order = np.argsort(-np.asarray(test_dataset["length"]), kind="stable")
        output = super().predict(test_dataset.select(order), ignore_keys, metric_key_prefix)
        output = _in_order_of_rows(output, np.argsort(order))
        loss = {f"{metric_key_prefix}_loss": self.mean_loss.value()}
        return output._replace(metrics={**(output.metrics or {}), **loss})

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """Like Trainer's, but adds the batch to the mean loss, and keeps only the logits: the hidden states that some
        models return, too, would fill the memory."""
        rows = len(inputs["labels"])
        own = self.mean_loss.own(rows)
        loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        counted: Any = loss
        part = inputs
        if 0 < own < rows:  # the other rows are padding: they repeat rows that count elsewhere
            part = {name: value[:own] for name, value in inputs.items()}
            counted, _, _ = super().prediction_step(model, part, True)
        if own:
            self.mean_loss.add(counted, int(_labels(part)))
        return loss, outputs[0] if isinstance(outputs, tuple) else outputs, labels

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        return self._order()

    def _order(self) -> LengthGroupedOrder:
        rows: Any = self.train_dataset
        return LengthGroupedOrder(rows["length"], self.args.per_device_train_batch_size, self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Like Trainer's, with the dropout masks of CommonMasks. Sums the losses on the device; once a loss is
        infinite or NaN, the sum is not finite."""
        self.masks.begin(self.state.global_step)
        loss = super().training_step(*args, **kwargs)
        self.loss_sum = loss.detach() + self.loss_sum
        return loss

    def take_weights(self, checkpoint: Path) -> None:
        """Loads the trained weights of a checkpoint, and nothing else of it."""
        self._load_from_checkpoint(str(checkpoint))


def _in_order_of_rows(output: PredictionOutput, places: np.ndarray) -> PredictionOutput:
    """The output with the predictions and labels that lie at `places`, if they were kept."""
    kept: dict[str, Any] = {"predictions": output.predictions, "label_ids": output.label_ids}
    return output._replace(**{name: values[places] for name, values in kept.items() if values is not None})


def _labels(batch: Mapping[str, Any]) -> Any:
    """The number of labels in the mean loss of a batch: one for each row, or one for each token that is not -100."""
    labels = batch["labels"]
    return labels.numel() if labels.dim() == 1 else (labels != IGNORED).sum()
