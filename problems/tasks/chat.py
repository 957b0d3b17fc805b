"""Language: the model reads conversations through its chat template, and learns the assistant's turns."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from jinja2 import TemplateError
from peft import TaskType
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.plain import shortened
from autolora.configs.tasks import OF_TOKENS
from autolora.configs.tasks import Chat as Settings
from autolora.problems.rows import evenly
from autolora.problems.scoring import is_of_2017, score_e2e, score_webnlg
from autolora.problems.tasks import formats
from autolora.problems.tasks.base import PAD_TO, PROGRAM, Collate, Rows, Task, for_batches
from autolora.problems.tasks.formats import Conversation, Format, format_of
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.sources import origin, read
from autolora.problems.tasks.template import PLAIN, Template, end_of_text
from autolora.problems.tasks.token_loss import token_loss

log = logging.getLogger("autolora.inputs")

_PLAIN = Features({"chat": Value("string"), "source": Value("string")})
_STORED = Features({**_PLAIN, "fault": Value("string")})
_ENCODED = Features(
    {
        **_PLAIN, "input_ids": List(Value("int32")), "labels": List(Value("int32")), "length": Value("int32"),
        "cut": Value("bool"), "fault": Value("string"),
    }
)  # fmt: skip
_UNLEARNABLE = (ValueError, TypeError, KeyError, AttributeError, TemplateError)
"""What the reading of a row, and its template, raise for one from which nothing can be learned."""


class Conversations(Task):
    """The one task of causal language models.

    `rows` makes conversations, as JSON in the column `chat`; `source` is the same for those that share a prompt. For
    pairs, e2e and webnlg there is one training row for each reference, and one evaluated row for each source.
    """

    auto_class = AutoModelForCausalLM
    peft_type = TaskType.CAUSAL_LM
    reads_outputs = False

    def __init__(self, config: Settings, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.name = config.result_name
        self.evaluation_split = config.evaluated_split
        self._template: Template | None = None

    @property
    def inputs(self) -> Sequence[str]:
        return ("source",)

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def rows(self) -> Rows:
        shipped = formats.of_lora(self.config) if self.config.format == "webnlg" else None
        raw = shipped or read(self.config, self.seed, lambda rows: self._conversations(rows)["source"][:])
        self.held_out, (self.evaluation_split, evaluated) = raw.held_out, next(iter(raw.evaluation.items()))
        train = self._learnable(raw.train, None)
        evaluation = self._learnable(evaluated, self.evaluation_split)
        if self._format(raw.train).scored:
            train, evaluation = self._records(train, evaluation)
        return Rows(train, {self.evaluation_split: evaluation}, raw.source)

    def _format(self, rows: Dataset) -> Format:
        return format_of(self.config, rows.column_names)

    def _conversations(self, rows: Dataset) -> Dataset:
        """Each row as a conversation, or why nothing can be learned from it."""
        return rows.map(
            _stored, batched=True, remove_columns=rows.column_names, features=_STORED,
            fn_kwargs={"form": self._format(rows), "program": PROGRAM},
        )  # fmt: skip

    def _learnable(self, rows: Dataset, split: str | None) -> Dataset:
        """The conversations of the rows of a split (None: to train on) from which something can be learned."""
        if "test_category" in rows.column_names:
            rows = rows.filter(formats.is_scored) or rows
        log.info(
            "chat: %s, %d rows, read from %s", self.origin(split), len(rows), ", ".join(self._format(rows).columns)
        )
        return _learnable(self._conversations(rows), self.origin(split))

    def _records(self, train: Dataset, evaluation: Dataset) -> tuple[Dataset, Dataset]:
        """A training row for each reference, and an evaluated row for each record with all its references. A record is
        a source; of WebNLG a row, as some of its rows have the same triples."""
        trained, evaluated = (list(map(conversation, rows)) for rows in (train, evaluation))
        if self.config.format != "webnlg":
            trained, evaluated = formats.by_source(trained), formats.by_source(evaluated)
        elif not is_of_2017({one.category for one in trained}, {one.category for one in evaluated}):
            log.info(
                "%s: its categories are not those of WebNLG 2017, so the scores are those of all texts together",
                self.config.path,
            )  # fmt: skip
            evaluated = [replace(one, category="") for one in evaluated]
        train, evaluation = (
            Dataset.from_list([{"chat": one.stored(), "source": one.key} for one in found], features=_PLAIN)
            for found in (formats.by_reference(trained), evaluated)
        )
        return train, evaluation

    def head(self) -> Mapping[str, Any]:
        return {}

    def adapt(self, model: PreTrainedModel) -> None:
        model.loss_function = partial(token_loss, smoothing=self.config.smoothing)

    def template(self, tokenizer: PreTrainedTokenizerBase) -> Template:
        """The run's chat template, which the tokenizer then has. Raises UserError where there is none."""
        if self._template is None or self._template.tokenizer is not tokenizer:
            self._template = Template(tokenizer, self._choice)
        return self._template

    @property
    def _choice(self) -> str | None:
        return self.config.chat_template or (PLAIN if self.config.from_paper else None)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """`input_ids`, `labels`, `length`, `chat` and `source` of the rows that have a token of an answer."""
        how = {
            "tokenizer": tokenizer, "ends": self.ends(tokenizer), "max_length": self.config.max_length,
            "template": None if _is_text(rows) else self.template(tokenizer), "program": PROGRAM,
        }  # fmt: skip
        found = rows.map(_encoded, batched=True, features=_ENCODED, fn_kwargs=how)
        if cut := sum(found["cut"][:]):
            log.warning(
                "%d of %d rows are longer than task.max_length %d: their end is cut off", cut, len(rows),
                self.config.max_length,
            )  # fmt: skip
        split = None if rows.split in (None, "train") else str(rows.split)
        return _learnable(found.remove_columns("cut"), self.origin(split))

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorForSeq2Seq(for_batches(tokenizer), pad_to_multiple_of=PAD_TO)

        def inputs(row: Mapping[str, Any]) -> dict[str, Any]:
            ids = row["input_ids"]
            return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": row["labels"]}

        return lambda rows: dict(pad(list(map(inputs, rows))))

    def score(self, metrics: Mapping[str, float]) -> float:
        """The loss decides: decoding D_val for every trial would take longer than training on D_tr."""
        return -metrics["loss"]

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        """No metrics: the logits are not kept, as a vocabulary is large. `token_metrics` gives the metrics instead."""
        return {}

    def token_metrics(self, loss: float, accuracy: float) -> dict[str, float]:
        return dict(zip(OF_TOKENS, (math.exp(min(loss, 700.0)), accuracy), strict=True))

    def ordered(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics that were asked for come first, in their order; the first is the main one."""
        first = [name for name in self.config.reported if name in metrics]
        return {name: metrics[name] for name in (*first, *metrics)}

    def score_texts(self, texts: list[str], rows: Dataset) -> dict[str, float]:
        """The metrics that were asked for, of one text per row of `encode`; units: docs/reproducing.md."""
        known = [conversation(row) for row in rows]
        references = [one.references for one in known]
        if self.config.format == "webnlg":
            found = score_webnlg(texts, references, self.config.asked, [one.category for one in known])
        else:
            found = score_e2e(texts, references, self.config.asked)
        own = {name: metric(texts, references) for name, metric in METRICS.items() if name in self.config.reported}
        return {name.lower(): value for name, value in found.items()} | own

    def form(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The form of the prompt, in words."""
        if self._template is None:
            return "prompt: none, the texts themselves are learned"
        return f"prompt: {self._choice or 'the chat template of the model'}"

    def example(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
        ids, in_answer = row["input_ids"], [label != IGNORED for label in row["labels"]]
        start = in_answer.index(True)
        end = in_answer.index(False, start) if False in in_answer[start:] else len(in_answer)
        given, learned = (repr(tokenizer.decode(part)) for part in (ids[:start], ids[start:end]))
        return f"{self.form(tokenizer)}; given {shortened(given)}, learned {shortened(learned)}"

    def decoded(self, rows: Dataset) -> Dataset:
        """The evaluation rows for which the model writes an answer: all if texts are scored, else some of those that
        were not cut, evenly spread."""
        if self.config.scores_texts or not len(rows):
            return rows
        whole: Any = [] if _is_text(rows) else np.flatnonzero(np.asarray(rows["length"][:]) < self.config.max_length)
        return rows.select([whole[number] for number in evenly(len(whole), self.config.samples)])

    def prompts(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """For each row, the token ids of its prompt, which the answer continues."""
        known = [conversation(row) for row in rows]
        return [self.template(tokenizer).prompt(one.prompt, **one.options) for one in known]

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens that end an answer."""
        if self._choice is None and tokenizer.chat_template is None:
            return [end_of_text(tokenizer)]
        return self.template(tokenizer).ends


def conversation(row: Mapping[str, Any]) -> Conversation:
    """The conversation of a row."""
    return Conversation(**json.loads(row["chat"]))


def exact_match(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of texts, 0 to 1, that equal one of their references; the width of white space does not matter."""
    found = [text.split() in [one.split() for one in refs] for text, refs in zip(texts, references, strict=True)]
    return sum(found) / len(found)


METRICS: Mapping[str, Callable[[Sequence[str], Sequence[Sequence[str]]], float]] = {"exact_match": exact_match}
"""Metrics beside the official ones: of texts and the references of each."""


def _stored(batch: dict[str, list[Any]], form: Format, program: str) -> dict[str, list[Any]]:
    """The rows of a batch as conversations; `fault`: why nothing can be learned from a row."""
    found: dict[str, list[Any]] = {"chat": [], "source": [], "fault": []}
    for cells in zip(*batch.values(), strict=True):
        try:
            one, fault = form.read(dict(zip(batch, cells, strict=True)), *form.columns), None
        except _UNLEARNABLE as error:
            one, fault = None, _in_words(error)
        for name, value in (("chat", one and one.stored()), ("source", one and one.key), ("fault", fault)):
            found[name].append(value)
    return found


def _encoded(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, template: Template | None, ends: list[int],
    max_length: int, program: str,
) -> dict[str, list[Any]]:  # fmt: skip
    """The token ids of each row, and the labels; `fault`: why nothing can be learned from a row."""
    found: dict[str, list[Any]] = {name: [] for name in ("input_ids", "labels", "length", "cut", "fault")}
    for chat in batch["chat"]:
        one, fault = Conversation(**json.loads(chat)), None
        try:
            if template is None:
                ids = _text_ids(str(one.text), tokenizer, ends)
                labels = [IGNORED, *ids[1:]]
            else:
                ids, labels = template.labelled(one.messages, one.learned, **one.options)
            if all(label == IGNORED for label in labels[:max_length]):
                fault = f"no token of an answer{' within task.max_length' * (len(ids) > max_length)}"
        except _UNLEARNABLE as error:
            ids, labels, fault = [], [], _in_words(error)
        row = (ids[:max_length], labels[:max_length], min(len(ids), max_length), len(ids) > max_length, fault)
        for cells, value in zip(found.values(), row, strict=True):
            cells.append(value)
    return found


def _in_words(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"


def _learnable(rows: Dataset, where: str) -> Dataset:
    """The rows without a fault; one line tells how many are left out. Raises UserError where none is left."""
    faults = rows["fault"][:]
    bad = [number for number, fault in enumerate(faults) if fault]
    if bad:
        told = f"{len(bad)} of {len(rows)} rows teach nothing; the first is row {bad[0] + 1}: {faults[bad[0]]}"
        if len(bad) == len(rows):
            raise UserError(f"{where}: {told}")
        log.warning("%s: %s; they are left out", where, told)
        rows = rows.select([number for number, fault in enumerate(faults) if not fault])
    return rows.remove_columns("fault")


def _is_text(rows: Dataset) -> bool:
    return conversation(rows[0]).text is not None


def _text_ids(text: str, tokenizer: PreTrainedTokenizerBase, ends: list[int]) -> list[int]:
    """The tokens of a plain text, with the token that begins a text where the tokenizer adds one, and with one that
    ends it. A text that a template has rendered may have its own already; none is then added.

    `ends`: the tokens that end a text or a turn, the tokenizer's end of text first."""
    ids, begin, end = list(tokenizer(text, verbose=False)["input_ids"]), [tokenizer.bos_token_id], ends[:1]
    if ids[:2] == begin * 2:
        ids = ids[1:]
    if ids[-2:] == [*end, *end]:
        return ids[:-1]
    # Templates write a line break behind the last turn.
    ended = ids[-1:] == end or text.rstrip().endswith(tuple(tokenizer.convert_ids_to_tokens(ends)))
    return ids if ended else [*ids, *end]
