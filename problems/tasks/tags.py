"""Sequence labelling: a tag on each word of a sentence (BioNLP 2004 and a user's own data)."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import TaskType
from tokenizers import Encoding
from torch import Tensor
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
)

from autolora.configs.errors import UserError
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import PROGRAM, Task
from autolora.problems.tasks.losses import IGNORED

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
_NAMES = {
    "tner/bionlp2004": [
        "O",
        "B-DNA",
        "I-DNA",
        "B-protein",
        "I-protein",
        "B-cell_type",
        "I-cell_type",
        "B-cell_line",
        "I-cell_line",
        "B-RNA",
        "I-RNA",
    ]
}
"""Data sets of the hub whose tags are numbers without names: the names in the order in which they
are numbered."""


class Tags(Task):
    """Words and their IOB2 tags. The first token of a word has its label; entities are counted over
    all words.

    A word without a token (cut off by max_length, or dropped by the tokenizer) counts as one for
    which O is predicted.
    """

    auto_class = AutoModelForTokenClassification
    peft_type = TaskType.TOKEN_CLS
    collator = DataCollatorForTokenClassification
    # A byte-level tokenizer has other tokens for a word at the beginning of a text than for one
    # inside a sentence.
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}

    def prepared(self, rows: Dataset, split: str | None) -> Dataset:
        """The columns `tokens` and `tags`. Raises UserError for tags that are not one a word, or
        not IOB2."""
        words = (self.config.text_columns or ["tokens"])[0]
        tags = self._column(rows)
        rows = self.columns(rows, [words, tags], split)
        names = self._names(rows)
        sentences = rows[words][:]
        found = rows[tags][:]
        found = found if names is None else [[names[tag] for tag in sentence] for sentence in found]
        if list(map(len, sentences)) != list(map(len, found)):
            raise UserError(f"{self.origin(split)}: a row has not as many tags as words")
        for tag in set(chain.from_iterable(found)):
            if not re.fullmatch(r"O|[BI]-\S+", str(tag)):
                raise UserError(
                    f"{self.origin(split)}: tag {tag!r} is not allowed; allowed: O, B-TYPE, "
                    "I-TYPE (IOB2)"
                )
        return Dataset.from_dict({"tokens": sentences, "tags": found})

    def _column(self, rows: Dataset) -> str:
        """The column of the tags."""
        usual = "tags" if "tags" in rows.column_names else "ner_tags"
        return self.config.label_column or usual

    def _names(self, rows: Dataset) -> list[str] | None:
        """The names of tags that are numbers in these rows as they were read, in their order; None
        where tags are names."""
        feature = getattr(rows.features[self._column(rows)], "feature", None)
        names: list[str] | None = getattr(feature, "names", _NAMES.get(self.config.path))
        return names

    def inputs_of(self, rows: Dataset) -> Sequence[str]:
        return ["tokens"]

    def labels_of(self, rows: Dataset) -> set[str]:
        return set(chain.from_iterable(rows["tags"][:]))

    @cached_property
    def classes(self) -> list[str]:
        """The tags: those of a trained head, else O, then those of each type."""
        if self.trained is not None and (names := self._names(self.trained.rows.rows)):
            return self.classes_of(list(names))
        found = {tag for rows in self.raw.learnable for tag in self.labels_of(rows)}
        return self.classes_of(
            [OUTSIDE, *sorted(found - {OUTSIDE}, key=lambda tag: (tag[2:], tag))]
        )

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None
    ) -> Dataset:
        """As for every task, with three further columns: `tokens` and `tags` are those of the whole
        sentence; `firsts` are the places of the first token of each word, -1 for a word without
        one."""
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        number = self.class_numbers(chain.from_iterable(rows["tags"][:]), split)
        max_length = self.config.max_length

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            encoded = tokenizer(
                list(map(" ".join, batch["tokens"])), truncation=True, max_length=max_length
            )
            lengths = list(map(len, encoded["input_ids"]))
            labels = [[IGNORED] * length for length in lengths]
            firsts = [
                first_tokens(encoded[row], words) for row, words in enumerate(batch["tokens"])
            ]
            for row, tags in enumerate(batch["tags"]):
                for first, tag in zip(firsts[row], tags, strict=True):
                    if first >= 0:
                        labels[row][first] = number[tag]
            return {**encoded, "labels": labels, "firsts": firsts, "length": lengths}

        found = rows.map(tokens, batched=True, desc="tokenise")
        # The mean loss of a batch without labels is NaN; in the evaluation such words count.
        taught = [
            row for row, firsts in enumerate(found["firsts"][:]) if max(firsts, default=-1) >= 0
        ]
        return found if split else found.select(taught)

    def predicted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The number of the tag of each token."""
        return logits.argmax(dim=-1)

    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        """The metrics of all entities, then of each type ("protein.f1"); seqeval's default mode (as
        conlleval)."""
        names = self.config.reported
        found = score_ner(rows["tags"][:], self._tags(predicted, rows))
        by_type = [name for name in found if "." in name and name.rpartition(".")[2] in names]
        return {name: found[name] for name in (*names, *by_type)}

    def predictions(self, predicted: np.ndarray, rows: Dataset) -> pd.DataFrame:
        """A row for each word: the number of its sentence, the word, its tag, the predicted tag."""
        table = {
            "sentence": range(len(rows)),
            "word": rows["tokens"][:],
            "tag": rows["tags"][:],
            "predicted": self._tags(predicted, rows),
        }
        return pd.DataFrame(table).explode(["word", "tag", "predicted"], ignore_index=True)

    def _tags(self, predicted: np.ndarray, rows: Dataset) -> list[list[str]]:
        """A tag for each word of each row."""
        found = zip(predicted.astype(int), rows["firsts"][:], strict=True)
        return [
            [self.classes[own[at]] if at >= 0 else OUTSIDE for at in firsts]
            for own, firsts in found
        ]


def first_tokens(encoding: Encoding, words: Sequence[str]) -> list[int]:
    """The place of the first token of each word, in the words joined by blanks; -1 for a word
    without a token."""
    found = list[int]()
    start = 0
    for word in words:
        tokens = map(encoding.char_to_token, range(start, start + len(word)))
        found.append(next((token for token in tokens if token is not None), -1))
        start += len(word) + 1
    return found
