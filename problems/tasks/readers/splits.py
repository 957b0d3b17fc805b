"""Which rows of a user's files are evaluated: those of a named file, or some of the training rows."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from configs.errors import UserError
from configs.recipe import evaluation_path
from configs.schema import TaskConfig

log = logging.getLogger("autolora.inputs")

T = TypeVar("T")


class Source(NamedTuple):
    """The option and the file that the evaluation rows come from; `held_out`: they are some of the training rows."""

    option: str
    path: Path
    held_out: bool


def evaluation_source(config: TaskConfig, split: str) -> Source:
    """Where the rows of `split` come from. Raises UserError for a split that does not exist."""
    if split not in ("validation", "test"):
        raise UserError(f"--task.evaluation_split: {split!r} is not allowed; allowed: validation, test")
    path = evaluation_path(config, split)
    if path is not None:
        return Source(f"--task.{split}_path", Path(path), held_out=False)
    if split == "test":
        raise UserError("--task.evaluation_split: 'test' needs --task.test_path")
    return Source("--task.path", Path(str(config.path)), held_out=True)


def origin(config: TaskConfig, split: str | None) -> str:
    """How a message about a user's training rows (None), or about those of `split`, begins; see `Task.origin`."""
    if split is None:
        return f"--task.path: {config.path}"
    source = evaluation_source(config, split)
    return f"{source.option}: {source.path}"


def read_or_hold_out(
    config: TaskConfig, source: Source, read: Callable[[str, Path], list[T]], kind: str, seed: int
) -> tuple[list[T], list[T]]:
    """The training and the evaluation items of a user's files; `read(option, path)` gives those of one file.

    `kind`: the word for an item in messages. Raises UserError as `read` and `hold_out` do, and if some items must be
    held out and there is only one.
    """
    path = Path(str(config.path))
    train = read("--task.path", path)
    if not source.held_out:
        return train, read(source.option, source.path)
    if len(train) < 2:
        raise UserError(f"--task.path: {path} has one {kind}; two or more are needed to hold one out")
    kept, held_out = hold_out(len(train), config.holdout_share, seed, path, kind=kind)
    return [train[i] for i in kept], [train[i] for i in held_out]


def tell_unused_share(config: TaskConfig, split: str) -> None:
    """Warns of a task.holdout_share of the user's that does nothing, as a split of the data is evaluated."""
    if config.holdout_share != TaskConfig().holdout_share:
        log.warning("--task.holdout_share: does nothing, as the split %s of %s is evaluated", split, config.path)


def hold_out(
    rows: int, share: float, seed: int, path: Path, classes: Sequence[str] | None = None, *, kind: str = "row"
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows that stay and of those held out (at least one): disjoint, complete, drawn by seed.

    classes: the class of each row; one row of each class then stays, so that every evaluated class was learned.
    kind: what messages call a row.
    Raises UserError, naming the file, when none would stay or none could be held out.
    """
    order = np.random.default_rng(seed).permutation(rows)
    count = max(1, round(rows * share))
    if count >= rows:
        raise UserError(
            f"--task.holdout_share: {share} of the {rows} {kind}s of {path} leaves none to train on; give more "
            f"{kind}s or a smaller share"
        )
    held_out = order[:count] if classes is None else _leaving_one_of_each(order, count, classes)
    if not len(held_out):
        raise UserError(
            f"--task.holdout_share: each of the {rows} rows of {path} is the only one of its class, so none can be "
            f"held out; give more rows or --task.validation_path"
        )
    return np.setdiff1d(order, held_out), np.sort(held_out)


def _leaving_one_of_each(order: np.ndarray, count: int, classes: Sequence[str]) -> np.ndarray:
    """The first `count` rows of `order` that leave each class a row; fewer where there are no more such rows."""
    left = Counter(classes)
    chosen: list[int] = []
    for row in order.tolist():
        if len(chosen) < count and left[classes[row]] > 1:
            left[classes[row]] -= 1
            chosen.append(row)
    return np.array(chosen, dtype=order.dtype)
