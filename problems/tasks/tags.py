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
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.rows import keys_of
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import PROGRAM, Task
from autolora.problems.tasks.losses import IGNORED

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
        usual = "ner_tags" if "ner_tags" in rows.column_names and "tags" not in rows.column_names else "tags"
        words, tags = (self.config.text_columns or ["tokens"])[0], self.config.label_column or usual
        rows = self.columns(rows, [words, tags], split)
        names = getattr(getattr(rows.features[tags], "feature", None), "names", None)
        if names is None and self.config.path in _ENTITIES:
            names = [OUTSIDE, *(f"{place}-{name}" for name in _ENTITIES[self.config.path] for place in "BI")]
        sentences, found = rows[words][:], rows[tags][:]
        found = found if names is None else [[names[tag] for tag in sentence] for sentence in found]
        if list(map(len, sentences)) != list(map(len, found)):
            raise UserError(f"{self.origin(split)}: a row has not as many tags as words")
        for tag in set(chain.from_iterable(found)):
            if not re.fullmatch(r"O|[BI]-\S+", str(tag)):
                raise UserError(f"{self.origin(split)}: tag {tag!r} is not allowed; allowed: O, B-TYPE, I-TYPE (IOB2)")
        return Dataset.from_dict({"tokens": sentences, "tags": found})

    def inputs_of(self, rows: Dataset) -> np.ndarray:
        return keys_of(rows, ["tokens"])

    @cached_property
    def classes(self) -> list[str]:
        """The tags: O, then those of each type."""
        found = [tag for rows in self.raw.known for tags in rows["tags"][:] for tag in tags]
        self.tell_classes("words", found)
        return [OUTSIDE, *sorted(set(found) - {OUTSIDE}, key=lambda tag: (tag[2:], tag))]

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None) -> Dataset:
        """As for every task, with three further columns: `tokens` and `tags` are those of the whole sentence; `words`
        are the numbers of the words that have a label."""
        self.refuse_unknown(chain.from_iterable(rows["tags"][:]), split)
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        number, max_length = {tag: index for index, tag in enumerate(self.classes)}, self.config.max_length

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            texts = [" ".join(words) for words in batch["tokens"]]
            encoded = tokenizer(texts, truncation=True, max_length=max_length)
            columns: dict[str, Any] = {**encoded, "labels": [], "words": [], "length": []}
            for row, (words, tags) in enumerate(zip(batch["tokens"], batch["tags"], strict=True)):
                firsts, length = first_tokens(encoded[row], words), len(encoded["input_ids"][row])
                found = [number[tags[firsts[token]]] if token in firsts else IGNORED for token in range(length)]
                columns["labels"].append(found)
                columns["words"].append(list(firsts.values()))
                columns["length"].append(length)
            return columns

        found = rows.map(tokens, batched=True, desc="tokenise")
        # The mean loss of a batch without labels is NaN; in the evaluation such words count.
        return found if split else found.select([row for row, words in enumerate(found["words"][:]) if words])

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


def first_tokens(encoding: Encoding, words: Sequence[str]) -> dict[int, int]:
    """The first token of each word -> the number of the word, in the words joined by blanks; a word without a token is
    left out."""
    found, place = dict[int, int](), 0
    for number, word in enumerate(words):
        tokens = map(encoding.char_to_token, range(place, place + len(word)))
        first = next((token for token in tokens if token is not None), None)
        if first is not None:
            found[first] = number
        place += len(word) + 1
    return found
