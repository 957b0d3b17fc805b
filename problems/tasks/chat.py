"""Language: the model reads conversations through its chat template, and learns the assistant's
turns."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value
from jinja2 import TemplateError
from peft import TaskType
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from autolora.configs.errors import UserError
from autolora.configs.tasks import OF_TOKENS
from autolora.problems.rows import Splits, evenly
from autolora.problems.scoring import score_e2e, score_webnlg
from autolora.problems.tasks.base import PROGRAM, Task
from autolora.problems.tasks.formats import (
    Conversation,
    Format,
    by_reference,
    by_source,
    format_of,
    is_scored,
)
from autolora.problems.tasks.losses import IGNORED, token_loss
from autolora.problems.tasks.template import PLAIN, Template, end_of_text

log = logging.getLogger("autolora.inputs")

_STORED = Features({"chat": Value("string"), "source": Value("string")})
_ENCODED = Features(
    {
        **_STORED,
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
        "length": Value("int32"),
    }
)
_UNLEARNABLE = (ValueError, TypeError, KeyError, AttributeError, TemplateError)
"""What the reading of a row, and its template, raise for one from which nothing can be learned."""


class Conversations(Task):
    """The one task of causal language models.

    `raw` are conversations, as JSON in the column `chat`; `source` is the same for those that share
    a prompt. For pairs, e2e and webnlg there is one training row for each reference, and one
    evaluated row for each source.
    """

    auto_class = AutoModelForCausalLM
    peft_type = TaskType.CAUSAL_LM
    collator = DataCollatorForSeq2Seq

    @cached_property
    def raw(self) -> Splits[Dataset]:
        raw = super().raw
        if not self.config.of_records:
            return raw
        train = _rows_of(by_reference(self._records(raw.train)))
        evaluation = {name: _rows_of(self._records(rows)) for name, rows in raw.evaluation.items()}
        return replace(raw, train=train, evaluation=evaluation)

    def _records(self, rows: Dataset) -> list[Conversation]:
        """A conversation for each source, with all its references."""
        found = [Conversation.of(row) for row in rows]
        # some rows of webnlg have the same triples
        return found if self.config.format == "webnlg" else by_source(found)

    def prepared(self, rows: Dataset, split: str | None) -> Dataset:
        if "test_category" in rows.column_names:
            rows = rows.filter(is_scored) or rows
        form = format_of(self.config, rows.column_names)
        return _learnable(rows, _read, _STORED, self.origin(split), form=form)

    def inputs_of(self, rows: Dataset) -> Sequence[str]:
        return ["source"]

    def adapt(self, model: PreTrainedModel) -> None:
        kind = model.config.model_type
        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
            model.config, "is_decoder", False
        ):
            raise UserError(
                f"--model.name: {kind} sees the tokens that it should predict; allowed: "
                "next-token models"
            )
        model.loss_function = partial(token_loss, smoothing=self.config.smoothing)

    def template(self, tokenizer: PreTrainedTokenizerBase) -> Template:
        """The run's chat template, which the tokenizer then has. Raises UserError where there is
        none."""
        return Template(tokenizer, self._choice)

    @property
    def _choice(self) -> str | None:
        return self.config.chat_template or (PLAIN if self.config.from_paper else None)

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None
    ) -> Dataset:
        """As for every task, with the columns `chat` and `source`; only the rows that have a token
        of an answer."""
        template = None if self._of_texts else self.template(tokenizer)
        return _learnable(
            rows,
            _encoded,
            _ENCODED,
            self.origin(split),
            tokenizer=tokenizer,
            template=template,
            max_length=self.config.max_length,
        )

    @cached_property
    def _of_texts(self) -> bool:
        """Whether the rows are plain texts, without a prompt."""
        return Conversation.of(self.raw.train[0]).text is not None

    def score(self, metrics: Mapping[str, float]) -> float:
        """The loss decides: decoding D_val for every trial would take longer than training on
        D_tr."""
        return -metrics["loss"]

    def predicted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How many labels have the largest logit, and how many there are: logits are not kept, as a
        vocabulary is large."""
        targets = labels[:, 1:]
        # The last logits predict nothing; cutting them off first would copy the logits.
        hits = (logits.argmax(dim=-1)[:, :-1] == targets) & (targets != IGNORED)
        return torch.stack([hits.sum(dim=1), (targets != IGNORED).sum(dim=1)], dim=1)

    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        hits, labels = predicted[:, :2].sum(axis=0).tolist()
        return dict(zip(OF_TOKENS, (math.exp(min(loss, 700.0)), hits / labels), strict=True))

    def score_texts(self, texts: list[str], rows: Dataset) -> dict[str, float]:
        """The metrics that were asked for, of one text per row of `encode`; units:
        docs/reproducing.md."""
        references = [Conversation.of(row).references for row in rows]
        official = score_webnlg if self.config.format == "webnlg" else score_e2e
        found = official(texts, references, self.config.asked)
        own = {
            name: metric(texts, references)
            for name, metric in METRICS.items()
            if name in self.config.reported
        }
        return {name.lower(): value for name, value in found.items()} | own

    def form(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The form of the prompt, in words."""
        if self._of_texts:
            return "prompt: none, the texts themselves are learned"
        return f"prompt: {self._choice or 'the chat template of the model'}"

    def decoded(self, rows: Dataset) -> Dataset:
        """The evaluation rows for which the model writes an answer: all if texts are scored, else
        some of those that were not cut, evenly spread."""
        if self.config.scores_texts:
            return rows
        whole = np.flatnonzero(np.asarray(rows["length"][:]) < self.config.max_length)
        return rows.select([] if self._of_texts else whole[evenly(len(whole), self.config.samples)])

    def prompts(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """For each row, the token ids of its prompt, which the answer continues."""
        if not len(rows):  # of whole texts, for which a model needs no template
            return []
        template = self.template(tokenizer)
        known = map(Conversation.of, rows)
        return [template.prompt(one.prompt, **one.options) for one in known]

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens that end an answer."""
        if self._choice is None and tokenizer.chat_template is None:
            return [end_of_text(tokenizer)]
        return self.template(tokenizer).ends


def _rows_of(found: Iterable[Conversation]) -> Dataset:
    return Dataset.from_list([one.stored() for one in found])


def exact_match(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of texts, 0 to 1, that equal one of their references; the width of white space does
    not matter."""
    found = [
        text.split() in [one.split() for one in refs]
        for text, refs in zip(texts, references, strict=True)
    ]
    return sum(found) / len(found)


METRICS: Mapping[str, Callable[[Sequence[str], Sequence[Sequence[str]]], float]] = {
    "exact_match": exact_match
}
"""Metrics beside the official ones: of texts and the references of each."""


def _learnable(
    rows: Dataset,
    convert: Callable[..., dict[str, Any]],
    features: Features,
    where: str,
    **given: Any,
) -> Dataset:
    """What `convert` makes of each row and what else is `given`, without the rows from which
    nothing can be learned; one line tells how many. Raises UserError where none is left."""
    found = rows.map(
        _converted,
        remove_columns=rows.column_names,
        features=Features({**features, "fault": Value("string")}),
        fn_kwargs={
            "convert": convert,
            "empty": dict.fromkeys(features),
            "program": PROGRAM,
            "given": given,
        },
    )
    faults = found["fault"][:]
    bad = [number for number, fault in enumerate(faults) if fault]
    if bad:
        told = (
            f"{len(bad)} of {len(rows)} rows teach nothing; the first is row {bad[0] + 1}: "
            f"{faults[bad[0]]}"
        )
        if len(bad) == len(rows):
            raise UserError(f"{where}: {told}")
        log.warning("%s: %s; they are left out", where, told)
        found = found.select([number for number, fault in enumerate(faults) if not fault])
    return found.remove_columns("fault")


def _converted(
    row: dict[str, Any],
    convert: Callable[..., dict[str, Any]],
    empty: dict[str, Any],
    program: str,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """What `convert` makes of a row; `fault`: why nothing can be learned from it."""
    try:
        return {**convert(row, **given), "fault": None}
    except _UNLEARNABLE as error:
        return {**empty, "fault": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _read(row: dict[str, Any], form: Format) -> dict[str, str]:
    return form.read(row, *form.columns).stored()


def _encoded(
    row: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None,
    max_length: int,
) -> dict[str, Any]:
    """The token ids of a row and the labels, the end of long ones cut off."""
    one = Conversation.of(row)
    if template is None:
        ids = list(tokenizer(str(one.text), verbose=False)["input_ids"])
        end = end_of_text(tokenizer)
        # a template has written its own beginning
        ids = ids[1:] if ids[:2] == [tokenizer.bos_token_id] * 2 else ids
        ids = ids if ids[-1:] == [end] else [*ids, end]
        labels = [IGNORED, *ids[1:]]
    else:
        ids, labels = template.labelled(one.messages, one.learned, **one.options)
    if all(label == IGNORED for label in labels[:max_length]):
        raise ValueError(
            f"no token of an answer{' within task.max_length' * (len(ids) > max_length)}"
        )
    kept = ids[:max_length]
    return {**row, "input_ids": kept, "labels": labels[:max_length], "length": len(kept)}
