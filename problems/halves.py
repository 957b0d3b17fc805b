"""Splits the training rows into D_tr, which trains W, and D_val, on which beta, learning rates and ranks are
chosen."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from datasets import Dataset

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.problems.tasks.given import GivenRows
from autolora.problems.tasks.inputs import texts_known

Halves = tuple[np.ndarray, np.ndarray]

# Whole sources rarely add up to exactly the wanted number of rows; the best of this many random choices is taken.
_DRAWS = 30


def by_source(config: RunConfig) -> bool:
    """Whether all training rows of one source go to the same half, so that no text is in both."""
    return config.task.headless and config.task.by_source


def split_rows(rows: Dataset | GivenRows, config: RunConfig) -> Halves:
    """Row numbers of D_tr and D_val for this run.

    If `task.split_by` is source, rows of generation and chat are divided by source. Rows of text and tokens, and rows
    of a script whose texts are known, are divided by text, if there are repeated texts and more than one text. All
    other rows are divided one by one.

    Raises UserError when one of the two would be empty.
    """
    task = config.task
    if by_source(config):
        return split_by_source(rows["source"][:], task.validation_share, config.data_seed)
    if isinstance(rows, GivenRows) or task.by_source:
        texts = texts_known(rows)
        if texts is not None and 1 < len(set(texts)) < len(rows):
            return split_by_source(texts, task.validation_share, config.data_seed)
    return split_indices(len(rows), task.validation_share, config.data_seed)


def split_indices(rows: int, validation_share: float, seed: int) -> Halves:
    """Row numbers of D_tr and of D_val: disjoint, complete, drawn by seed (paper: 1 : 1).

    Raises UserError when one of the two would be empty.
    """
    validation = _size_of_d_val(rows, validation_share)
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[validation:]), np.sort(order[:validation])


def split_by_source(sources: Sequence[Hashable], validation_share: float, seed: int) -> Halves:
    """As `split_indices`, but all rows of one source are in the same half; `sources` names the source of each row.

    A row whose source was trained on would measure memory, not learning. D_val is the best of up to `_DRAWS` random
    choices of whole sources: the one whose number of rows is closest to the share.
    """
    wanted = _size_of_d_val(len(sources), validation_share)
    owners, names = pd.factorize(np.asarray(sources, dtype=object))
    if len(names) < 2:
        raise UserError(
            f"--task.split_by: all {len(sources)} training rows have one source, which cannot be in both D_tr and "
            f"D_val; give --task.split_by row, or training rows of two or more sources"
        )
    sizes = np.bincount(owners)
    generator = np.random.default_rng(seed)
    chosen, missed = _draw(sizes, wanted, generator)
    for _ in range(_DRAWS - 1):
        if missed == 0:
            break
        again, again_missed = _draw(sizes, wanted, generator)
        if again_missed < missed:
            chosen, missed = again, again_missed
    in_d_val = np.isin(owners, chosen)
    return np.flatnonzero(~in_d_val), np.flatnonzero(in_d_val)


def _draw(sizes: np.ndarray, wanted: int, generator: np.random.Generator) -> tuple[list[int], int]:
    """Draws sources for D_val; returns them, and how many rows more or fewer than `wanted` they have.

    Sources are taken in a random order, and a source that would make D_val too large is left out. At the end, the
    smallest of those left out is added if D_val then comes closer to `wanted`. D_val gets at least one source, and
    never all of them.
    """
    chosen: list[int] = []
    passed: list[int] = []
    left = wanted
    for source in generator.permutation(len(sizes)).tolist():
        fits = sizes[source] <= left
        (chosen if fits else passed).append(source)
        left -= int(sizes[source]) if fits else 0
    smallest = min(passed, key=lambda source: int(sizes[source]))
    over = int(sizes[smallest]) - left
    if not chosen or (over < left and len(passed) > 1):
        return [*chosen, smallest], over
    return chosen, left


def _size_of_d_val(rows: int, validation_share: float) -> int:
    validation = round(rows * validation_share)
    if not 0 < validation < rows:
        raise UserError(
            f"--task.validation_share: {validation_share} of {rows} training rows leaves D_tr or D_val empty; "
            f"give more rows or another share"
        )
    return validation
