"""Tagged sentences from the splits of a data set on the hub."""

from collections.abc import Mapping
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from autolora.configs.errors import UserError
from autolora.configs.tasks import Tokens
from autolora.problems.tasks.readers import tagged_hub
from autolora.problems.tasks.readers.tagged_hub import Tagged, read_tagged

NAMES = ["O", "B-DNA"]


def split_with(word: str, column: str = "tags") -> Dataset:
    """One sentence of two words, the second of which is DNA; tags are numbers with names."""
    features = Features({"tokens": Sequence(Value("string")), column: Sequence(ClassLabel(names=NAMES))})
    return Dataset.from_dict({"tokens": [["the", word]], column: [[0, 1]]}, features=features)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """read(splits, **settings): what is read of a repository with these splits."""

    def call(splits: Mapping[str, Dataset], *, evaluates: bool = True, **settings: Any) -> Tagged:
        monkeypatch.setattr(tagged_hub, "load_splits", lambda *_, **__: splits)
        return read_tagged(Tokens(type="tokens", path="owner/name", **settings), evaluates=evaluates)

    return call


def words(sentences: Any) -> list[str]:
    return [word for sentence in sentences for word in sentence.tokens]


@pytest.mark.parametrize(
    ("present", "settings", "evaluated"),
    [
        (["train", "validation", "test"], {}, "test"),
        (["train", "validation"], {}, "validation"),
        (["train", "validation", "test"], {"evaluation_split": "validation"}, "validation"),
        (["train"], {}, None),
    ],
)
def test_the_split_that_is_evaluated(
    read: Any, present: list[str], settings: dict[str, Any], evaluated: str | None
) -> None:
    found = read({name: split_with(name) for name in present}, **settings)
    assert words(found.train) == ["the", "train"]
    assert found.split == evaluated
    assert (None if found.evaluation is None else words(found.evaluation)) == (evaluated and ["the", evaluated])


def test_without_an_evaluation_no_other_split_is_read(read: Any) -> None:
    assert read({"train": split_with("a"), "test": split_with("b")}, evaluates=False)[1:] == (None, None)


@pytest.mark.parametrize("column", ["tags", "ner_tags"])
def test_tags_are_named_by_the_data_set(read: Any, column: str) -> None:
    (sentence,) = read({"train": split_with("a", column)}).train
    assert list(sentence.tags) == NAMES


def test_columns_may_have_other_names(read: Any) -> None:
    renamed = split_with("a").rename_columns({"tokens": "words", "tags": "entities"})
    assert words(read({"train": renamed}, text_columns=["words"], label_column="entities").train) == ["the", "a"]


@pytest.mark.parametrize(
    ("splits", "settings", "named"),
    [
        ({"test": split_with("a")}, {}, "owner/name has no split train; it has: test"),
        ({"train": split_with("a")}, {"evaluation_split": "dev"}, "dev"),
        (
            {"train": split_with("a", "labels")},
            {},
            "split 'train' of owner/name has no column tags; it has: tokens, labels",
        ),
        ({"train": split_with("a")}, {"text_columns": ["words"]}, "has no column words; it has: tokens, tags"),
    ],
)
def test_what_is_missing_is_named(
    read: Any, splits: Mapping[str, Dataset], settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        read(splits, **settings)
