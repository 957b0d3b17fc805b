"""Text from data with a causal language model: the prompt is the record in one line, and the answer alone has labels.

    source <separator> answer <end of text>     labels: -100 on source and separator

The separator is the tokenizer's beginning of text (its end where it has none): LoRA's recipe for GPT-2.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.scoring import METRICS, check_metrics, score_e2e, score_webnlg
from problems.scoring.names import plain
from problems.tasks.base import PAD_TO, Collate, Rows, Task, refuse_other_metrics
from problems.tasks.readers.cache import mapped
from problems.tasks.readers.records import Record, evaluation_rows, training_rows
from problems.tasks.token_loss import token_loss

log = logging.getLogger("autolora")

MODEL_INPUTS = ("input_ids", "attention_mask", "labels")


class Generation(Task):
    """Records and their texts. Outputs are decoded after the training (engine/retrain/generate.py) and scored here."""

    auto_class = AutoModelForCausalLM
    peft_type = TaskType.CAUSAL_LM
    reads_outputs = False
    scoring: ClassVar[str] = "e2e"
    """The official scores that this task has."""

    def __init__(self, config: TaskConfig, metrics: Sequence[str]) -> None:
        self.config = config
        self._metrics = [plain(name) for name in metrics]
        refuse_other_metrics(self._metrics, [plain(name) for name in METRICS[self.scoring]])

    @abstractmethod
    def records(self) -> tuple[list[Record], list[Record]]:
        """The records of the training and of the evaluation split. Raises UserError when they cannot be read."""

    @property
    def inputs(self) -> Sequence[str]:
        return ("source",)

    def rows(self) -> Rows:
        check_metrics(self.scoring, self._metrics)  # a missing Java is told now, not after hours of training
        train, evaluation = self.records()
        return Rows(training_rows(train), {self.evaluation_split: evaluation_rows(evaluation)})

    def head(self) -> Mapping[str, Any]:
        return {}

    def adapt(self, model: PreTrainedModel) -> None:
        model.loss_function = partial(token_loss, smoothing=self.config.label_smoothing)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        end, max_length = end_of_text(tokenizer), self.config.max_length

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded: dict[str, list[Any]] = {name: [] for name in (*MODEL_INPUTS, "length", "cut")}
            for source, target in zip(batch["source"], batch["target"], strict=True):
                answer = [*_ids(tokenizer, " " + target.strip())[: max_length - 2], end]
                start = prompt(tokenizer, source)
                kept = cut_prompt(start, max_length - len(answer))
                encoded["input_ids"].append(kept + answer)
                encoded["attention_mask"].append([1] * len(kept + answer))
                encoded["labels"].append([-100] * len(kept) + answer)
                encoded["length"].append(len(kept + answer))
                encoded["cut"].append(len(kept) < len(start) or len(answer) == max_length - 1)
            return encoded

        # D_tr and D_val are split by source; references and category are for the scores.
        dropped = [name for name in rows.column_names if name not in ("source", "references", "category")]
        found = mapped(rows, tokens, remove_columns=dropped)
        if cut := sum(found["cut"]):
            log.warning("%d of %d rows are longer than task.max_length %d and were cut", cut, len(rows), max_length)
        return found.remove_columns(["cut"])

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=PAD_TO)
        return lambda rows: dict(pad([{name: row[name] for name in MODEL_INPUTS} for row in rows]))

    def score(self, metrics: Mapping[str, float]) -> float:
        """The loss decides: decoding D_val for every trial would take longer than training on D_tr."""
        return -metrics["loss"]

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        """No metrics: logits of the reference say little about the texts that the model writes; see `score_texts`."""
        return {}

    def score_texts(self, texts: list[str], rows: Dataset) -> dict[str, float]:
        """The official metrics of one decoded text a row of `encode`, in lower case; units: docs/scoring.md."""
        references, categories = [list(refs) for refs in rows["references"]], list(rows["category"])
        if self.scoring == "webnlg":
            found = score_webnlg(texts, references, self._metrics, categories if any(categories) else None)
        else:
            found = score_e2e(texts, references, self._metrics)
        return {name.lower(): value for name, value in found.items()}


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text. Raises UserError for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise UserError("--model.name: its tokenizer has no end of text; generation needs that of a causal model")
    return int(tokenizer.eos_token_id)


def prompt(tokenizer: PreTrainedTokenizerBase, source: str) -> list[int]:
    """Token ids of the source and the separator, which the model continues with an answer."""
    begin = tokenizer.bos_token_id
    return [*_ids(tokenizer, source), end_of_text(tokenizer) if begin is None else int(begin)]


def cut_prompt(ids: list[int], length: int) -> list[int]:
    """The first tokens of a prompt, at most `length`, with its separator at the end."""
    return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]


def _ids(tokenizer: Callable[..., Any], text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
