"""Sequence labelling: a tag on each word of a sentence (BioNLP 2004 and a user's own data)."""

import logging
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.tasks import OF_TAGS, Tokens
from autolora.problems.rows import keys_of
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import NOT_OF_MODEL, PAD_TO, PROGRAM, Collate, Rows, Task, for_batches
from autolora.problems.tasks.labels import IGNORED, head_of, tell_classes
from autolora.problems.tasks.sources import origin, read

log = logging.getLogger("autolora.inputs")

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
    # A byte-level tokenizer has other tokens for a word at the beginning of a text than for one inside a sentence.
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}

    def __init__(self, config: Tokens, seed: int) -> None:
        self.config, self.seed = config, seed
        self._metrics = tuple(config.metrics or OF_TAGS)
        self.name, self.evaluation_split = config.result_name, config.evaluated_split
        self.classes: list[str] = []

    @property
    def inputs(self) -> Sequence[str]:
        return ("tokens",)

    def rows(self) -> Rows:
        raw = read(self.config, self.seed, lambda rows: keys_of(rows, self._columns(rows)[:1]), tagged=True)
        self.held_out, self.evaluation_split = raw.held_out, "+".join(raw.evaluation)
        train = self._sentences(raw.train, None)
        evaluation = {split: self._sentences(rows, split) for split, rows in raw.evaluation.items()}
        own = [train, *(evaluation.values() if raw.held_out else ())]
        found = [tag for rows in own for tags in rows["tags"][:] for tag in tags]
        entities = sorted(set(found) - {OUTSIDE}, key=lambda tag: (tag[2:], tag))
        self.classes = [OUTSIDE, *entities]
        if not entities:
            raise UserError(f"{self.origin()}: has no tag but O; nothing can be learned")
        for split, rows in evaluation.items():
            if unknown := {tag for tags in rows["tags"][:] for tag in tags} - set(self.classes):
                raise UserError(
                    f"{self.origin(split)}: tag {min(unknown)!r} does not occur in the training rows; known: "
                    f"{', '.join(self.classes[:20])}"
                )
        told = f"{sum(map(len, own))} sentences of {self.name}"
        tell_classes(told, self.classes, map(self.classes.index, found), "tags")
        return Rows(train, evaluation, raw.source)

    def _columns(self, rows: Dataset, split: str | None = None) -> list[str]:
        """The columns with the words and the tags. Raises UserError for one that is missing."""
        known = rows.column_names
        tags = self.config.label_column or ("ner_tags" if "ner_tags" in known and "tags" not in known else "tags")
        columns = [(self.config.text_columns or ["tokens"])[0], tags]
        if missing := [name for name in columns if name not in known]:
            raise UserError(f"{self.origin(split)} has no column {missing[0]!r}; it has: {', '.join(known)}")
        return columns

    def _sentences(self, rows: Dataset, split: str | None) -> Dataset:
        """The columns `tokens` and `tags`. Raises UserError for tags that are not one a word, or not IOB2."""
        words, column = self._columns(rows, split)
        names = getattr(getattr(rows.features[column], "feature", None), "names", None)
        if names is None and self.config.path in _ENTITIES:
            names = [OUTSIDE, *(f"{place}-{name}" for name in _ENTITIES[self.config.path] for place in "BI")]
        tokens, tags = rows[words][:], rows[column][:]
        tags = tags if names is None else [[names[tag] for tag in sentence] for sentence in tags]
        for number, (sentence, found) in enumerate(zip(tokens, tags, strict=True), 1):
            if len(sentence) != len(found):
                raise UserError(f"{self.origin(split)}: row {number} has {len(sentence)} words and {len(found)} tags")
        for tag in {tag for sentence in tags for tag in sentence}:
            if not re.fullmatch(r"O|[BI]-\S+", str(tag)):
                raise UserError(f"{self.origin(split)}: tag {tag!r} is not allowed; allowed: O, B-TYPE, I-TYPE (IOB2)")
        return Dataset.from_dict({"tokens": tokens, "tags": tags})

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def head(self) -> Mapping[str, Any]:
        return head_of(self.classes)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The model's inputs, with three further columns.

        `tokens` and `tags` are those of the whole sentence; `words` are the numbers of the words that have a label.
        """
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        number = {tag: index for index, tag in enumerate(self.classes)}
        max_length = self.config.max_length

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            texts = [" ".join(words) for words in batch["tokens"]]
            encoded = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
            spans = encoded.pop("offset_mapping")
            columns: dict[str, Any] = {**encoded, "labels": [], "words": [], "length": list(map(len, spans))}
            for places, words, tags in zip(spans, batch["tokens"], batch["tags"], strict=True):
                owners = owners_of(places, words)
                firsts = [w is not None and w != before for before, w in zip([None, *owners], owners, strict=False)]
                columns["labels"].append(
                    [number[tags[w]] if first else IGNORED for w, first in zip(owners, firsts, strict=True)]
                )
                columns["words"].append([w for w, first in zip(owners, firsts, strict=True) if first])
            return columns

        encoded = rows.map(tokens, batched=True, desc="tokenise")
        words, labelled = (sum(map(len, encoded[column][:])) for column in ("tags", "words"))
        if labelled < words:
            log.warning(
                "%d of %d words have no token (most are beyond task.max_length %d); they are not trained on, "
                "and in the evaluation O is predicted for them", words - labelled, words, max_length,
            )  # fmt: skip
        return encoded

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        padded = for_batches(tokenizer)
        pad = DataCollatorForTokenClassification(padded, pad_to_multiple_of=PAD_TO, label_pad_token_id=IGNORED)
        # Betty takes plain dicts only: transformers' BatchEncoding would become a tuple of its keys.
        return lambda rows: dict(pad([{k: v for k, v in row.items() if k not in NOT_OF_MODEL} for row in rows]))

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        """The metrics of all entities, then of each type ("protein.f1"); seqeval's default mode (as conlleval)."""
        found = score_ner(rows["tags"][:], self.predicted(outputs, labels, rows))
        by_type = [name for name in found if "." in name and name.rpartition(".")[2] in self._metrics]
        return {name: found[name] for name in (*self._metrics, *by_type)}

    def predictions(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> str:
        """The columns of conlleval, separated by tabs: word, tag, predicted tag; a blank line between sentences."""
        predicted = self.predicted(outputs, labels, rows)
        sentences = zip(rows["tokens"][:], rows["tags"][:], predicted, strict=True)
        blocks = [["\t".join(word) for word in zip(*sentence, strict=True)] for sentence in sentences]
        return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"

    def predicted(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> list[list[str]]:
        """A tag for each word of each row. outputs [rows, tokens, tags], labels [rows, tokens]."""
        sentences = []
        for scores, known, words, tags in zip(outputs, labels, rows["words"][:], rows["tags"][:], strict=True):
            sentence = [OUTSIDE] * len(tags)
            for word, tag in zip(words, scores[known != IGNORED].argmax(axis=-1), strict=True):
                sentence[word] = self.classes[tag]
            sentences.append(sentence)
        return sentences


def owners_of(places: Sequence[tuple[int, int]], words: Sequence[str]) -> list[int | None]:
    """The number of the word that each token is from, by the token's last character; None for special tokens.

    `places`: first and last character (exclusive) of each token in the words, joined by blanks."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    return [bisect(starts, end - 1) - 1 if end > start else None for start, end in places]
