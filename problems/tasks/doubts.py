"""Warnings, before the training, of rows that can be used but would give a misleading result."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

log = logging.getLogger("autolora.inputs")

MOST_UNKNOWN = 0.1


def warn_of_shared_texts(train: Dataset, evaluation: Dataset, name: str, columns: Sequence[str]) -> None:
    """Warns of evaluation rows whose text is also a training row's (all `columns`; for generation the source)."""
    trained = set(texts_of(train, columns))
    shared = sum(text in trained for text in texts_of(evaluation, columns))
    if shared:
        log.warning(
            "%d of %d rows of %s %s a text that is also in the training rows, which measures memory, not learning",
            shared, len(evaluation), name, "has" if shared == 1 else "have",
        )  # fmt: skip


def texts_of(rows: Dataset, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """What the model reads of each row, as something that can be compared."""
    cells = [[tuple(cell) if isinstance(cell, list) else cell for cell in rows[column][:]] for column in columns]
    return list(zip(*cells, strict=True))


def warn_of_unknown_tokens(rows: Dataset, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warns when many tokens (more than MOST_UNKNOWN) are the tokenizer's unknown token."""
    unknown: Any = tokenizer.unk_token_id
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id")
    if unknown is None or unknown in {getattr(tokenizer, name) for name in names}:
        return  # GPT-2 uses one token for all of these; it can encode every text, as it knows every byte
    ids = _flat(rows, "input_ids")
    words = ids[~np.isin(ids, [special for special in tokenizer.all_special_ids if special != unknown])]
    share = float(np.mean(words == unknown)) if len(words) else 0.0
    if share > MOST_UNKNOWN:
        log.warning(
            "%.0f %% of the tokens of %s are unknown to the tokenizer (%s), so the model does not see them: is "
            "--model.name for texts of this language?", 100 * share, name, tokenizer.unk_token,
        )  # fmt: skip


def _flat(rows: Dataset, column: str) -> np.ndarray:
    """All numbers of a column, also where each row has a list of them."""
    cells = rows.with_format("arrow")[:][column]
    flat = pc.list_flatten(cells) if "list" in str(cells.type) else cells
    return np.asarray(flat.to_numpy())
