"""Rows that a script must load itself, and the collator that it must give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.api import UserError, learn_ranks
from tests.helpers.api import class_rows, classifier, learn, settings


@pytest.mark.parametrize("text", ["rows.jsonl", b"rows"])
@pytest.mark.parametrize("name", ["train_dataset", "validation_dataset"])
def test_the_name_of_a_file_is_refused_as_rows(model_folder: Callable[..., Path], text: Any, name: str) -> None:
    """A text has a length and an index, too; the collator had ended in an AttributeError."""
    given: dict[str, Any] = {"rows": text} if name == "train_dataset" else {name: text}
    with pytest.raises(UserError, match=f"^{name}: the text b?'rows.*' is not allowed; allowed: rows that are loaded"):
        learn(classifier(model_folder("bert")), **given)


def test_a_missing_collator_is_a_line_with_what_to_write(model_folder: Callable[..., Path]) -> None:
    """It had been a bare TypeError."""
    with pytest.raises(UserError, match=r"^collate: is missing; .* transformers\.DataCollatorWithPadding\(tokenizer"):
        learn_ranks(classifier(model_folder("bert")), class_rows(), settings())
