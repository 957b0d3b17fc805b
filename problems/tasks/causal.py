"""What all tasks of a causal language model share: labels on the tokens of answers, and texts that are decoded."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.plain import shortened
from autolora.configs.tasks import OF_TOKENS, TaskSettings
from autolora.problems.tasks.base import PAD_TO, Collate, Task
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.padding import for_batches
from autolora.problems.tasks.templates import Message
from autolora.problems.tasks.token_loss import token_loss

MODEL_INPUTS = ("input_ids", "attention_mask", "labels")


class Causal(Task):
    """Texts in which the answers are learned; after the training the model writes answers of its own."""

    auto_class = AutoModelForCausalLM
    peft_type = TaskType.CAUSAL_LM
    reads_outputs = False
    config: TaskSettings

    @property
    def inputs(self) -> Sequence[str]:
        return ("source",)

    def head(self) -> Mapping[str, Any]:
        return {}

    def adapt(self, model: PreTrainedModel) -> None:
        model.loss_function = partial(token_loss, smoothing=self.config.smoothing)

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorForSeq2Seq(for_batches(tokenizer), pad_to_multiple_of=PAD_TO)
        return lambda rows: dict(pad([{name: row[name] for name in MODEL_INPUTS} for row in rows]))

    def score(self, metrics: Mapping[str, float]) -> float:
        """The loss decides: decoding D_val for every trial would take longer than training on D_tr."""
        return -metrics["loss"]

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        """No metrics: the logits are not kept, as a vocabulary is large. `token_metrics` gives the metrics instead."""
        return {}

    def token_metrics(self, loss: float, accuracy: float) -> dict[str, float]:
        return dict(zip(OF_TOKENS, (math.exp(min(loss, 700.0)), accuracy), strict=True))

    def example(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
        ids, in_answer = row["input_ids"], [label != IGNORED for label in row["labels"]]
        start = in_answer.index(True)
        end = in_answer.index(False, start) if False in in_answer[start:] else len(in_answer)
        given, learned = (repr(tokenizer.decode(part)) for part in (ids[:start], ids[start:end]))
        return f"{self.form(tokenizer)}; given {shortened(given)}, learned {shortened(learned)}"

    @abstractmethod
    def form(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The form of the prompt, in words."""

    @abstractmethod
    def decoded(self, rows: Dataset) -> Dataset:
        """The evaluation rows for which the model writes an answer."""

    @abstractmethod
    def prompts(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """For each row, the token ids of its prompt, which the answer continues."""

    @abstractmethod
    def messages(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Message] | None:
        """The turns that make up the prompt of a row; None where the prompt is the source alone."""

    @abstractmethod
    def ends(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens that end an answer."""
