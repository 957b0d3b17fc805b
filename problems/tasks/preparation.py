"""From a task to encoded rows: reading, cutting to the settings' numbers of rows, encoding."""

import logging

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autolora.problems.rows import Rows, Splits, evenly, keys_of
from autolora.problems.tasks import Task

log = logging.getLogger("autolora.inputs")


def prepare(task: Task, tokenizer: PreTrainedTokenizerBase) -> Splits[Rows]:
    """Loads the rows, cuts them by `task.train_rows` and `task.evaluation_rows`, and encodes
    them."""
    settings = task.config
    raw = task.raw
    collate = task.collate(tokenizer)

    def encoded(rows: Dataset, split: str | None) -> Rows:
        return Rows.encoded(_encoded(task, tokenizer, rows, split), collate, task.origin(split))

    most = settings.evaluation_rows
    order = np.random.default_rng(task.seed).permutation(len(raw.train))
    count = min(settings.train_rows or len(order), len(order))
    train = encoded(raw.train.select(np.sort(order[:count])), None)
    evaluation = {}
    for name, split in raw.evaluation.items():
        # Neither the first rows, as files are often sorted, nor random ones, as every seed is
        # measured on the same.
        chosen = split.select(evenly(len(split), most or len(split)))
        evaluation[name] = encoded(chosen, name)
        shared = int(np.isin(evaluation[name].groups, train.groups).sum())
        if shared and task.trained is None:
            log.warning(
                "%d of %d rows of %s are also in the training rows: they measure memory, not "
                "learning",
                shared,
                len(chosen),
                name,
            )
    unused = None
    if left := order[count : count + 2 * settings.unused_rows].tolist():
        further = encoded(raw.train.select(left), None)
        # Some of them have a text of the training rows, and are left out.
        new = np.flatnonzero(~np.isin(further.groups, train.groups))[: settings.unused_rows]
        unused = further.select(new) if len(new) else None
    return Splits(train, evaluation, unused, raw.held_out)


def _encoded(
    task: Task, tokenizer: PreTrainedTokenizerBase, rows: Dataset, split: str | None
) -> Dataset:
    """The encoded rows of a split with their `group`: by the column `source`, else by their
    tokens."""
    encoded = task.encode(rows, tokenizer, split)
    most = task.config.max_length
    if full := sum(length >= most for length in encoded["length"][:]):
        log.warning(
            "%s: %d of %d rows reach task.max_length, %d tokens; longer ones are cut off there",
            task.origin(split),
            full,
            len(encoded),
            most,
        )
    input_of = "source" if "source" in encoded.column_names else "input_ids"
    return encoded.add_column("group", keys_of(encoded, [input_of]))
