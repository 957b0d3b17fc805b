"""Sequence labelling: a tag on each word of a sentence (BioNLP 2004 and a user's own data)."""

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import TaskType
from torch import Tensor
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.rows import keys_of
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import PROGRAM, Task
from autolora.problems.tasks.labels import IGNORED, head_of, tell_classes

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
_ENTITIES = {"tner/bionlp2004": ("DNA", "protein", "cell_type", "cell_line", "RNA")}
"""Data sets of the hub whose tags are numbers without names: the entities in the order in which they are numbered."""


class Tags(Task):
    """Words and their IOB2 tags. The first token of a word has its label; entities are counted over all words.

    A word without a token (cut off by max_length, or dropped by the tokenizer) counts as one for which O is predicted.
    """

    auto_class = AutoModelForTokenClassification
    peft_type = TaskType.TOKEN_CLS
    collator = DataCollatorForTokenClassification
    # A byte-level tokenizer has other tokens for a word at the beginning of a text than for one inside a sentence.
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}

    def prepared(self, rows: Dataset, split: str | None) -> Dataset:
        """The columns `tokens` and `tags`. Raises UserError for tags that are not one a word, or not IOB2."""
        known = rows.column_names
        tags = self.config.label_column or ("ner_tags" if "ner_tags" in known and "tags" not in known else "tags")
        columns = [(self.config.text_columns or ["tokens"])[0], tags]
        if missing := [name for name in columns if name not in known]:
            raise UserError(f"{self.origin(split)} has no column {missing[0]!r}; it has: {', '.join(known)}")
        names = getattr(getattr(rows.features[tags], "feature", None), "names", None)
        if names is None and self.config.path in _ENTITIES:
            names = [OUTSIDE, *(f"{place}-{name}" for name in _ENTITIES[self.config.path] for place in "BI")]
        words, found = (rows[column][:] for column in columns)
        found = found if names is None else [[names[tag] for tag in sentence] for sentence in found]
        for number, (sentence, own) in enumerate(zip(words, found, strict=True), 1):
            if len(sentence) != len(own):
                raise UserError(f"{self.origin(split)}: row {number} has {len(sentence)} words and {len(own)} tags")
        for tag in set(chain.from_iterable(found)):
            if not re.fullmatch(r"O|[BI]-\S+", str(tag)):
                raise UserError(f"{self.origin(split)}: tag {tag!r} is not allowed; allowed: O, B-TYPE, I-TYPE (IOB2)")
        return Dataset.from_dict({"tokens": words, "tags": found})

    def inputs_of(self, rows: Dataset) -> np.ndarray:
        return keys_of(rows, ["tokens"])

    @cached_property
    def classes(self) -> list[str]:
        """The tags: O, then those of each type. Raises UserError if there are none."""
        found = [tag for rows in self.raw.known for tags in rows["tags"][:] for tag in tags]
        tell_classes(f"{len(found)} words of {self.name}", found)
        entities = sorted(set(found) - {OUTSIDE}, key=lambda tag: (tag[2:], tag))
        if not entities:
            raise UserError(f"{self.origin()}: has no tag but O; nothing can be learned")
        return [OUTSIDE, *entities]

    def head(self) -> Mapping[str, Any]:
        return head_of(self.classes)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None) -> Dataset:
        """As for every task, with three further columns: `tokens` and `tags` are those of the whole sentence; `words`
        are the numbers of the words that have a label."""
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        number = {tag: index for index, tag in enumerate(self.classes)}
        if unknown := set(chain.from_iterable(rows["tags"][:])) - number.keys():
            raise UserError(
                f"{self.origin(split)}: tag {min(unknown)!r} does not occur in the training rows; known: "
                f"{', '.join(self.classes[:20])}"
            )
        max_length = self.config.max_length

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            texts = [" ".join(words) for words in batch["tokens"]]
            encoded = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
            spans = encoded.pop("offset_mapping")
            columns: dict[str, Any] = {**encoded, "labels": [], "words": [], "length": list(map(len, spans))}
            for places, words, tags in zip(spans, batch["tokens"], batch["tags"], strict=True):
                owners = owners_of(places, words)
                # The number of the word whose first token this is; None for all other tokens.
                firsts = [
                    word if word != before else None
                    for before, word in zip([None, *owners], owners, strict=False)
                ]  # fmt: skip
                columns["labels"].append([IGNORED if word is None else number[tags[word]] for word in firsts])
                columns["words"].append([word for word in firsts if word is not None])
            return columns

        found = rows.map(tokens, batched=True, desc="tokenise")
        taught = [row for row, words in enumerate(found["words"][:]) if words]
        if not taught:
            raise UserError(f"{self.origin(split)}: no word of the {len(rows)} rows has a token of the tokenizer of "
                            f"--model.name")  # fmt: skip
        # The mean loss of a batch without labels is NaN; in the evaluation such words count.
        return found.select(taught) if split is None else found

    def predicted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The number of the tag of each token."""
        return logits.argmax(dim=-1)

    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        """The metrics of all entities, then of each type ("protein.f1"); seqeval's default mode (as conlleval)."""
        names = self.config.reported
        found = score_ner(rows["tags"][:], self._tags(predicted, rows))
        by_type = [name for name in found if "." in name and name.rpartition(".")[2] in names]
        return {name: found[name] for name in (*names, *by_type)}

    def predictions(self, predicted: np.ndarray, rows: Dataset) -> pd.DataFrame:
        """A row for each word: the number of its sentence, the word, its tag, the predicted tag."""
        table = {"sentence": range(len(rows)), "word": rows["tokens"][:], "tag": rows["tags"][:],
                 "predicted": self._tags(predicted, rows)}  # fmt: skip
        return pd.DataFrame(table).explode(["word", "tag", "predicted"], ignore_index=True)

    def _tags(self, predicted: np.ndarray, rows: Dataset) -> list[list[str]]:
        """A tag for each word of each row."""
        sentences = []
        columns = (rows[name][:] for name in ("labels", "words", "tags"))
        for numbers, labels, words, tags in zip(predicted.astype(int), *columns, strict=True):
            own = dict(zip(words, numbers[: len(labels)][np.array(labels) != IGNORED], strict=True))
            sentences.append([self.classes[own[word]] if word in own else OUTSIDE for word in range(len(tags))])
        return sentences


def owners_of(places: Sequence[tuple[int, int]], words: Sequence[str]) -> list[int | None]:
    """The number of the word that each token is from, by the token's last character; None for special tokens.

    `places`: first and last character (exclusive) of each token in the words, joined by blanks."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    return [bisect(starts, end - 1) - 1 if end > start else None for start, end in places]
