"""Sequence labelling: a tag on each word of a sentence (BioNLP 2004 and a user's own data)."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from autolora.configs.endings import CONLL, TAGGED, ending
from autolora.configs.errors import UserError
from autolora.configs.places import is_hub_name
from autolora.configs.tasks import OF_TAGS, Tokens
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import PAD_TO, Collate, Rows, Task
from autolora.problems.tasks.class_names import tell_classes
from autolora.problems.tasks.labels import IGNORED, OUTSIDE
from autolora.problems.tasks.padding import for_batches
from autolora.problems.tasks.readers.numbering import ROW, at
from autolora.problems.tasks.readers.splits import (
    Source,
    evaluation_source,
    origin,
    read_or_hold_out,
    tell_unused_share,
)
from autolora.problems.tasks.readers.tagged_files import Sentence, find_split, place, read_sentences, unread_of_split
from autolora.problems.tasks.readers.tagged_hub import read_tagged, where
from autolora.problems.tasks.split_names import TRAIN, UNUSED, rows_in_words
from autolora.problems.tasks.split_words import before_words

log = logging.getLogger("autolora.inputs")


class Tagging(Task):
    """Words and their IOB2 tags. The first token of a word has its label; entities are counted over all words.

    A word without a token (cut off by max_length, or dropped by the tokenizer) counts as one for which O is predicted.
    """

    auto_class = AutoModelForTokenClassification
    peft_type = TaskType.TOKEN_CLS
    # A byte-level tokenizer has other tokens for a word at the beginning of a text than for one inside a sentence.
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}

    def __init__(self, config: Tokens, seed: int) -> None:
        self._metrics = tuple(config.metrics or OF_TAGS)
        self.name = config.result_name
        self._of_hub = is_hub_name(str(config.path))
        self.config = _with_files_of_folder(config)
        self.seed = seed
        self.evaluation_split = self.config.evaluated_split
        self.classes: list[str] = []

    @property
    def inputs(self) -> Sequence[str]:
        return ("tokens",)

    def rows(self) -> Rows:
        read = self._read
        if self._of_hub:
            found = read_tagged(self.config, evaluates=not self._own_file)
            if found.split is not None and found.evaluation is not None:
                self.evaluation_split = found.split
                tell_unused_share(self.config, found.split)
                return self._rows(found.train, found.evaluation, where(self.config, found.split))

            def read(option: str, path: Path) -> list[Sentence]:
                return found.train if option == "--task.path" else self._read(option, path)

        source = evaluation_source(self.config, self.evaluation_split)
        train, evaluation = read_or_hold_out(
            self.config, source, read, "sentence", self.seed, text_of=lambda sentence: tuple(sentence.tokens)
        )
        return self._rows(train, evaluation, None if source.held_out else source)

    def _rows(self, train: list[Sentence], evaluation: list[Sentence], source: Source | str | None) -> Rows:
        """The rows; `source`: the file or the split that `evaluation` comes from.

        None: `evaluation` was held out of the training rows, and its tags are classes, too. From a file or a split,
        every tag must occur in the training rows.
        """
        self.held_out = source is None
        sentences = [*train, *(evaluation if source is None else ())]
        counts = _tags_of(str(self.config.path), sentences)
        self.classes = list(counts)
        if source is not None:
            self._refuse_new_tags(source, evaluation)
        name = str(self.config.path) if self._of_hub else Path(str(self.config.path)).name
        tell_classes(f"{len(sentences)} sentences of {name}", counts, "tags")
        return Rows(_dataset(train), {self.evaluation_split: _dataset(evaluation)})

    @property
    def _own_file(self) -> str | None:
        """The user's file to evaluate on, where there is one."""
        return self.config.file_of(self.evaluation_split)

    def origin(self, split: str | None = None) -> str:
        of_hub = self._of_hub and not self._own_file
        return f"--task.path: {self.config.path}" if of_hub else origin(self.config, split)

    def _read(self, option: str, path: Path) -> list[Sentence]:
        """The sentences of a file. Raises UserError as `read_sentences` does, and for named columns of CoNLL."""
        words, tags = self.config.text_columns, self.config.label_column
        if ending(path) in CONLL and (words or tags):
            key = "text_columns" if words else "label_column"
            raise UserError(
                f"--task.{key}: {option} is {str(path)!r}, whose columns have no names (the word comes first, the tag "
                f"last); allowed: null"
            )
        return read_sentences(option, path, ((words or ["tokens"])[0], tags or "tags"))

    def _refuse_new_tags(self, source: Source | str, sentences: Sequence[Sentence]) -> None:
        for sentence in sentences:
            for tag, line in zip(sentence.tags, sentence.lines, strict=True):
                if tag not in self.classes:
                    known = ", ".join(self.classes[:20])
                    begin = f"{source}, {at(ROW, line)}" if isinstance(source, str) else place(*source[:2], line)
                    raise UserError(f"{begin}: tag {tag!r} does not occur in the training rows; known: {known}")

    def head(self) -> Mapping[str, Any]:
        return {
            "num_labels": len(self.classes),
            "id2label": dict(enumerate(self.classes)),
            "label2id": {tag: index for index, tag in enumerate(self.classes)},
        }

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The model's inputs, with three further columns.

        `tokens` and `tags` are those of the whole sentence; `words` are the numbers of the words that have a label.
        """
        if not tokenizer.is_fast:
            raise UserError("--model.name: its tokenizer cannot tell which word a token is from (it has no fast form)")
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        number = {tag: index for index, tag in enumerate(self.classes)}
        max_length, before = self.config.max_length, before_words(tokenizer)

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            given = [[f"{before}{word}" for word in words] for words in batch["tokens"]]
            encoded = tokenizer(given, is_split_into_words=True, truncation=True, max_length=max_length)
            columns: dict[str, Any] = {**encoded, "labels": [], "words": [], "length": []}
            for row, tags in enumerate(batch["tags"]):
                owners = encoded.word_ids(row)
                firsts = [w is not None and w != before for before, w in zip([None, *owners], owners, strict=False)]
                labels = [number[tags[w]] if first else IGNORED for w, first in zip(owners, firsts, strict=True)]
                columns["labels"].append(labels)
                columns["words"].append([w for w, first in zip(owners, firsts, strict=True) if first])
                columns["length"].append(len(owners))
            return columns

        encoded = rows.map(tokens, batched=True, desc="tokenise")
        words, labelled = (sum(map(len, encoded[column][:])) for column in ("tags", "words"))
        if labelled < words:
            done = "O is predicted for them" if rows.split not in (TRAIN, UNUSED) else "they are not trained on"
            log.warning(
                "%d of the %d words of %s have no token (cut off by --task.max_length %d, or dropped by the "
                "tokenizer): %s", words - labelled, words, rows_in_words(rows), max_length, done,
            )  # fmt: skip
        return encoded

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        padded = for_batches(tokenizer)
        pad = DataCollatorForTokenClassification(padded, pad_to_multiple_of=PAD_TO, label_pad_token_id=IGNORED)
        not_of_the_model = {"tokens", "tags", "words", "length"}
        # Betty takes plain dicts only: transformers' BatchEncoding would become a tuple of its keys.
        return lambda rows: dict(pad([{k: v for k, v in row.items() if k not in not_of_the_model} for row in rows]))

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


def _with_files_of_folder(config: Tokens) -> Tokens:
    """If task.path is a folder: the settings with the files of its splits, except for files that the user names."""
    folder = Path(str(config.path))
    if not folder.is_dir():
        return config
    train = find_split(folder, "train")
    if train is None:
        raise UserError(
            f"--task.path: folder {str(folder)!r} has no train file, such as train.conll or train.jsonl; allowed: a "
            f"file that ends in {', '.join(TAGGED)}"
        )
    validation, test = config.validation_path, config.test_path
    if test is None and not (validation and config.evaluation_split != "test"):  # else the user's file is evaluated
        test = _in_folder(folder, "test")
    return config.model_copy(
        update={
            "path": str(train), "test_path": test,
            "validation_path": validation or _in_folder(folder, "validation"),
        }
    )  # fmt: skip


def _in_folder(folder: Path, split: str) -> str | None:
    """The file of a split to evaluate on. A warning tells of files that have the split's name and are not read."""
    found = find_split(folder, split)
    if found is None and (others := unread_of_split(folder, split)):
        log.warning(
            "--task.path: %s of %s is not read as rows of the split %s; allowed: a file that ends in %s",
            ", ".join(others), folder, split, ", ".join(TAGGED),
        )  # fmt: skip
    return str(found) if found else None


def _tags_of(path: str, sentences: Sequence[Sentence]) -> dict[str, int]:
    """The tags of these sentences with the numbers of their words: O, then by type, B- before I-.

    Raises UserError if O is the only tag."""
    found = Counter(tag for sentence in sentences for tag in sentence.tags)
    entities = found.keys() - {OUTSIDE}
    if not entities:
        raise UserError(f"--task.path: {path} has no tag but O; nothing can be learned")
    return {tag: found[tag] for tag in (OUTSIDE, *sorted(entities, key=lambda tag: (tag[2:], tag)))}


def _dataset(sentences: Sequence[Sentence]) -> Dataset:
    return Dataset.from_dict({"tokens": [s.tokens for s in sentences], "tags": [s.tags for s in sentences]})
