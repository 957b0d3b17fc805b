"""transformers.Trainer with this program's order of rows, mean losses over labels, and autocast in training only."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import PredictionOutput

from engine.retrain.common import CommonMasks
from engine.retrain.evaluation import LabelMean, hits_of
from engine.retrain.sharding import shared_batches
from problems.data import LengthGroupedOrder
from problems.machine.compute import Compute
from problems.machine.processes import ALONE, Processes


class RetrainTrainer(Trainer):
    """Trainer whose order of rows depends on seed and epoch alone, so that a resumed run sees the same rows, and whose
    step descends the mean loss over all labels of its rows, in however many batches and processes they come.

    Among several processes each takes its own rows of the same batches: Trainer's own sharding fills the last batch of
    an epoch up and weighs unequal parts alike.

    Evaluation is in the weights' own precision, whatever the training was in: bf16 has too few numbers for predictions
    to be ranked by. Trainer's option bf16 would autocast the model's forward for good, in evaluation and decoding too.
    """

    def __init__(self, *args: Any, compute: Compute, processes: Processes = ALONE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.compute = compute
        self.processes = processes
        self.mean_loss = LabelMean(0, processes)
        # Trainer assumes that a model whose forward takes **kwargs divides its loss by num_items_in_batch. Most models
        # with a class head do not: their accumulated gradients would be as many times too large.
        self.model_accepts_loss_kwargs = False
        self.loss_sum: Any = 0.0
        model: Any = self.model
        self.masks = CommonMasks(model, self.args.seed, processes.rank)
        self.hits: torch.Tensor | None = None

    def get_train_dataloader(self) -> Any:
        if self.processes.size == 1:
            return super().get_train_dataloader()
        return shared_batches(self.train_dataset, self._order(), self.data_collator, self.processes)

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """The batches of one step and, where there are several, the number of their labels (a GPU is not asked for
        what is not needed)."""
        batches, _ = super().get_batch_samples(*args, **options)
        return batches, sum(map(_labels, batches)) if len(batches) > 1 else None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        share = inputs.pop("share", None)
        if share is not None:
            # DDP averages the gradients over the processes.
            return super().compute_loss(model, inputs) * share * self.processes.size
        if num_items_in_batch is None:
            found: Any = super().compute_loss(model, inputs, return_outputs)
            if return_outputs and self.args.prediction_loss_only and inputs["labels"].dim() == 2:  # no logits are kept
                self.hits = hits_of(found[1]["logits"], inputs["labels"])
            return found
        batches = self.current_gradient_accumulation_steps  # Trainer divides by their number
        return super().compute_loss(model, inputs) * _labels(inputs) * batches / num_items_in_batch

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """Trainer's place for autocast around a forward pass and its loss."""
        model: Any = self.model
        return self.compute.autocast() if model.training else nullcontext()

    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> PredictionOutput:
        """As Trainer's, in the order of the rows; the loss (eval_loss) is the mean over all labels, and where the
        outputs are not kept eval_accuracy is the share of labels that have the largest logit."""
        self.mean_loss, self.hits = LabelMean(len(test_dataset), self.processes), None
        output = super().predict(test_dataset, ignore_keys, metric_key_prefix)
        found = {"loss": self.mean_loss.value()}
        if self.args.prediction_loss_only:
            found["accuracy"] = self.mean_loss.accuracy()
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return output._replace(metrics={**(output.metrics or {}), **named})

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """As Trainer's; adds the batch to the mean loss and keeps the logits alone: some models return their hidden
        states besides, which would fill the memory."""
        rows = len(inputs["labels"])
        own = self.mean_loss.own(rows)
        loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        counted: Any = loss
        part = inputs
        if 0 < own < rows:  # the rest are rows that another batch has
            part = {name: value[:own] for name, value in inputs.items()}
            counted, _, _ = super().prediction_step(model, part, True)
        if own:
            self.mean_loss.add(counted, int(_labels(part)), self.hits)
        return loss, outputs[0] if isinstance(outputs, tuple) else outputs, labels

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        return self._order()

    def _order(self) -> LengthGroupedOrder:
        rows: Any = self.train_dataset
        return LengthGroupedOrder(rows["length"], self.args.per_device_train_batch_size, self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As Trainer's, with masks that depend on seed and step alone; keeps the sum of the losses on the device: once
        not a number, always not a number."""
        self.masks.begin(self.state.global_step)
        loss = super().training_step(*args, **kwargs)
        self.loss_sum = loss.detach() + self.loss_sum
        return loss

    def take_weights(self, checkpoint: Path) -> None:
        """The trained weights of a checkpoint, and nothing else of it."""
        self._load_from_checkpoint(str(checkpoint))


def _labels(batch: Mapping[str, Any]) -> Any:
    """How many entries of a batch its mean loss is over: a class or a number a row, or those that are not -100."""
    labels = batch["labels"]
    return labels.numel() if labels.dim() == 1 else (labels != -100).sum()
