"""Text from data with a causal language model: the prompt is the record in one line, and the answer alone has labels.

    plain    source <separator> answer <end of text>     labels: -100 on source and separator
    chat     the model's chat template: the source as the user's turn, the answer as the assistant's

The separator is the tokenizer's beginning-of-text token, or its end-of-text token if it has none for the beginning:
LoRA's recipe for GPT-2.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.tasks import Generation as Settings
from autolora.configs.tasks import plain_name
from autolora.problems.scoring import score_e2e, score_webnlg
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.causal import MODEL_INPUTS, Causal
from autolora.problems.tasks.prompts import ChatPrompt, Lost, PlainPrompt, Prompt
from autolora.problems.tasks.readers.records import Record, as_training_rows, evaluation_rows, training_rows
from autolora.problems.tasks.split_names import rows_in_words
from autolora.problems.tasks.template_files import take_template
from autolora.problems.tasks.templates import Message, template_of

log = logging.getLogger("autolora.inputs")

TextMetric = Callable[[Sequence[str], Sequence[Sequence[str]]], float]
"""From texts and the references of each to a score."""


class Generation(Causal):
    """Records and their texts. engine/retrain/generate.py writes texts after the training; they are scored here."""

    scoring: ClassVar[str] = "e2e"
    """The key of OFFICIAL with the metrics of this task."""
    config: Settings
    own_metrics: ClassVar[Mapping[str, TextMetric]] = {}
    """Metrics of texts beside the official ones."""

    def __init__(self, config: Settings, metrics: Sequence[str]) -> None:
        self.config = config
        self._asked = [plain_name(name) for name in metrics]
        self._official = config.official

    def ordered(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics that were asked for come first, in their order; the first is the main one."""
        first = [name for name in self._asked if name in metrics]
        return {name: metrics[name] for name in (*first, *metrics)}

    @abstractmethod
    def records(self) -> tuple[list[Record], list[Record]]:
        """The records of the training and of the evaluation split. Raises UserError when they cannot be read."""

    def rows(self) -> Rows:
        train, evaluation = self.records()
        return Rows(training_rows(train), {self.evaluation_split: evaluation_rows(evaluation)})

    def as_read(self, rows: Rows) -> Iterable[Dataset]:
        """A row for each reference, as the training rows have it; a held-out row has all references of its source."""
        return rows.train, *(as_training_rows(split) for split in rows.evaluation.values())

    def adapt_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        take_template(tokenizer, self.config.chat_template)

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> Prompt:
        """The form of the prompt, by `task.prompt`. Raises UserError for chat without a template."""
        if self.config.prompt == "chat" and template_of(tokenizer) is None:
            raise UserError(
                f"--task.prompt: 'chat' is not allowed, as {tokenizer.name_or_path} has no chat template; allowed: "
                f"auto, plain, or a template in --task.chat_template"
            )
        is_chat = self._is_chat(tokenizer)
        return ChatPrompt(tokenizer, self.config.chat_template) if is_chat else PlainPrompt(tokenizer)

    def _is_chat(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        by_default = template_of(tokenizer) is not None and self.config.benchmark is None
        return self.config.prompt == "chat" or (self.config.prompt == "auto" and by_default)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        prompt, max_length = self.prompt(tokenizer), self.config.max_length

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded: dict[str, list[Any]] = {name: [] for name in (*MODEL_INPUTS, "length", *Lost._fields)}
            for source, target in zip(batch["source"], batch["target"], strict=True):
                ids, labels, lost = prompt.labelled(source, target, max_length)
                encoded["input_ids"].append(ids)
                encoded["attention_mask"].append([1] * len(ids))
                encoded["labels"].append(labels)
                encoded["length"].append(len(ids))
                for name, is_lost in lost._asdict().items():
                    encoded[name].append(is_lost)
            return encoded

        # `source` stays for the split into D_tr and D_val; references and category stay for the scores.
        dropped = [name for name in rows.column_names if name not in ("source", "references", "category")]
        found = rows.map(tokens, batched=True, remove_columns=dropped)
        self._warn_of_cuts(found, rows_in_words(rows))
        return found.remove_columns(list(Lost._fields))

    def _warn_of_cuts(self, found: Dataset, of_all: str) -> None:
        """Warns of rows that are too long, with what they lost: a row without its source teaches nothing of it."""
        lost = [Lost(*row) for row in zip(*(found[name][:] for name in Lost._fields), strict=True)]
        words = ("the end of their source", "their whole source", "the end of their answer")
        parts = [f"{n} {part}" for n, part in zip(map(sum, zip(*lost, strict=True)), words, strict=True) if n]
        if parts:
            log.warning(
                "%d of %s are longer than task.max_length %d and lost tokens: %s; raise --task.max_length",
                sum(map(any, lost)), of_all, self.config.max_length, ", ".join(parts),
            )  # fmt: skip

    def form(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return f"prompt: {self.prompt(tokenizer).words}"

    def decoded(self, rows: Dataset) -> Dataset:
        return rows

    def prompts(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        prompt = self.prompt(tokenizer)
        return [prompt.cut(prompt.ids(source), self.config.max_length) for source in rows["source"]]

    def messages(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Message] | None:
        return [{"role": "user", "content": row["source"]}] if self._is_chat(tokenizer) else None

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.prompt(tokenizer).ends

    def score_texts(self, texts: list[str], rows: Dataset) -> dict[str, float]:
        """The metrics that were asked for, of one decoded text per row of `encode`; units: docs/reproducing.md."""
        references: list[list[str]] = rows["references"][:]
        if self.scoring == "webnlg":
            found = score_webnlg(texts, references, self._official, rows["category"][:])
        else:
            found = score_e2e(texts, references, self._official)
        own = {name: metric(texts, references) for name, metric in self.own_metrics.items() if name in self._asked}
        return {name.lower(): value for name, value in found.items()} | own
