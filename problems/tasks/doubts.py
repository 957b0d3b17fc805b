"""Warnings, before the training, of rows that can be used but would give a misleading result."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autolora.problems.tasks.inputs import texts_known
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.templates import Template

log = logging.getLogger("autolora.inputs")

MOST_UNKNOWN = 0.05
_TURNS = (
    "[INST]", "<start_of_turn>", "<|im_start|>", "<|start_header_id|>", "<|user|>", "<｜User｜>",
    "<|START_OF_TURN_TOKEN|>",
)  # fmt: skip
"""With what a turn begins in the templates of Llama 2 and Mistral, Gemma, ChatML, Llama 3, Phi and Zephyr, DeepSeek
and Cohere: plain text to the tokenizer of another model, and [INST] also to Llama 2's own."""


def warn_of_shared_texts(train: Dataset, evaluation: Dataset, name: str, columns: Sequence[str]) -> None:
    """Warns of evaluation rows whose text is also a training row's (all `columns`; for generation the source)."""
    trained = set(texts_of(train, columns))
    shared = sum(text in trained for text in texts_of(evaluation, columns))
    if shared:
        log.warning(
            "%d of %d rows of %s %s a text that is also in the training rows, which measures memory, not learning",
            shared, len(evaluation), name, "has" if shared == 1 else "have",
        )  # fmt: skip


def warn_of_repeated_rows(d_tr: Dataset, d_val: Dataset) -> None:
    """Warns of encoded rows of D_val whose text is that of a row of D_tr, on which W is trained. Of some rows that a
    script gives, the texts are not known."""
    trained, chosen_on = texts_known(d_tr), texts_known(d_val)
    if trained is None or chosen_on is None:
        return
    known = set(trained)
    if shared := sum(text in known for text in chosen_on):
        log.warning(
            "%d of %d rows of D_val %s a text that is also in D_tr, so that what is chosen on D_val is chosen on rows "
            "that were trained on; remove repeated rows from the training rows", shared, len(d_val),
            "has" if shared == 1 else "have",
        )  # fmt: skip


def texts_of(rows: Dataset, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """What the model reads of each row, as something that can be compared."""
    cells = [[tuple(cell) if isinstance(cell, list) else cell for cell in rows[column][:]] for column in columns]
    return list(zip(*cells, strict=True))


def warn_of_untrained_classes(train: Dataset, evaluation: Dataset, name: str, classes: Mapping[int, str]) -> None:
    """Warns of classes that are evaluated and have no training row; `classes` is empty for tasks without classes."""
    if not classes:
        return
    numbers, counts = np.unique(_flat(evaluation, "labels"), return_counts=True)
    found = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    missing = [number for number in np.setdiff1d(numbers, _flat(train, "labels")).tolist() if number in classes]
    if missing:
        log.warning(
            "%d labels of %s are of classes that no training row has, which cannot be learned: %s%s",
            sum(found[number] for number in missing), name, ", ".join(classes[number] for number in missing[:10]),
            ", ..." if len(missing) > 10 else "",
        )  # fmt: skip


def warn_of_one_label(evaluation: Dataset, name: str) -> None:
    """Warns if all evaluated texts have the same class or number: no prediction can correlate with a constant."""
    if np.ptp(_flat(evaluation, "labels")) == 0:
        log.warning(
            "all %d rows of %s have the same label, so that the metrics on them tell little (correlations, as "
            "spearman and matthews, are 0)", len(evaluation), name,
        )  # fmt: skip


def warn_of_no_entity(evaluation: Dataset, name: str, outside: int) -> None:
    """Warns if no evaluated word is tagged as an entity; `outside`: the number of the tag O."""
    labels = _flat(evaluation, "labels")
    if np.isin(labels, (outside, IGNORED)).all():
        log.warning(
            "no word of the %d rows of %s is tagged as an entity, so that f1, precision and recall are 0 on them, "
            "whatever was learned", len(evaluation), name,
        )  # fmt: skip


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


def warn_of_gap(template: Template, file: str | None) -> None:
    """Warns of a template with marks whose prompt for an answer is not where the learned text begins.

    `file`: the template's file (task.chat_template); None: the model's own.
    """
    if template.gap:
        log.warning(
            "the chat template, %s: %s; so in use the model must continue a prompt that it did not learn to continue",
            file or "the model's own", template.gap,
        )  # fmt: skip


def warn_of_rendered_texts(
    rows: Dataset, texts: Sequence[str], where: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Warns of plain texts with special tokens or the beginning of a turn inside, as in conversations that a template
    has rendered. `rows`: the encoded texts.

    An end of text inside does not count, as it also stands between several plain texts; nor does the token at the
    beginning that the tokenizer adds itself. `where`: how the message begins.
    """
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special} - ends
    rendered: list[str] = []
    for ids, text in zip(rows["input_ids"][:], texts, strict=True):
        inside = ids[1:] if ids[0] == tokenizer.bos_token_id else ids
        tokens = (str(tokenizer.convert_ids_to_tokens(token)) for token in inside if token in special)
        rendered += [found for found in (next(tokens, None), *_turns_in(text)) if found][:1]
    if rendered:
        log.warning(
            "%s: %d of %d texts have special tokens or marks of turns inside, such as %s, so they look like "
            "conversations that a template has rendered: all of a text is learned, the user's turns too; give "
            "messages instead, of which only the answers are learned",
            where, len(rendered), len(rows), rendered[0],
        )  # fmt: skip


def _turns_in(text: str) -> list[str]:
    return [mark for mark in _TURNS if mark in text]


def _flat(rows: Dataset, column: str) -> np.ndarray:
    """All numbers of a column, also where each row has a list of them."""
    cells = rows.with_format("arrow")[:][column]
    flat = pc.list_flatten(cells) if "list" in str(cells.type) else cells
    return np.asarray(flat.to_numpy())
