"""Sentences with a tag on each word, from a data set of the hub with its splits."""

from collections.abc import Mapping
from typing import NamedTuple

from datasets import ClassLabel, Dataset

from autolora.configs.errors import UserError
from autolora.configs.tasks import Tokens
from autolora.problems.columns import listed
from autolora.problems.tasks.readers.hub import load_splits, split_of
from autolora.problems.tasks.readers.tag_names import names_of_hub
from autolora.problems.tasks.readers.tagged_files import Sentence, sentences_of

_TAGS = ("tags", "ner_tags")
_EVALUATED = ("test", "validation")


class Tagged(NamedTuple):
    """The training sentences, and the sentences and the name of the split to evaluate on (None: no such split)."""

    train: list[Sentence]
    evaluation: list[Sentence] | None
    split: str | None


def read_tagged(config: Tokens, *, evaluates: bool) -> Tagged:
    """The training sentences of a repository and, with `evaluates`, those of a split to evaluate on.

    That split is task.evaluation_split; if it is null, test, else validation. Raises UserError for a split or a column
    that does not exist, and as `sentences_of` does.
    """
    path = str(config.path)
    splits: Mapping[str, Dataset] = load_splits(path, config.configuration, "tokens", config.revision, may_choose=True)
    if "train" not in splits:
        raise UserError(f"--task.path: {path} has no split train; it has: {', '.join(splits)}")
    train = _sentences(config, splits["train"], "train")
    wanted = config.evaluation_split or next((name for name in _EVALUATED if name in splits), None)
    if not evaluates or wanted is None:
        return Tagged(train, None, None)
    return Tagged(train, _sentences(config, split_of(splits, wanted, path), wanted), wanted)


def where(config: Tokens, split: str) -> str:
    """The beginning of a message about a split."""
    return f"--task.path: split {split!r} of {config.path}"


def _sentences(config: Tokens, rows: Dataset, split: str) -> list[Sentence]:
    words = (config.text_columns or ["tokens"])[0]
    tags = config.label_column or next((name for name in _TAGS if name in rows.column_names), _TAGS[0])
    missing = [name for name in (words, tags) if name not in rows.column_names]
    if missing:
        raise UserError(
            f"{where(config, split)} has no column {', '.join(missing)}; it has: {listed(rows.column_names)}"
        )
    inner = getattr(rows.features[tags], "feature", None)
    names = inner.names if isinstance(inner, ClassLabel) else names_of_hub(str(config.path))
    return sentences_of(where(config, split), rows, (words, tags), names)
