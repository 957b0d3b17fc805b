"""Which rows of a user's files are evaluated: those of a named file, or some of the training rows."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from autolora.configs.errors import UserError
from autolora.configs.tasks import OwnRows

log = logging.getLogger("autolora.inputs")

T = TypeVar("T")


class Source(NamedTuple):
    """The option and the file that the evaluation rows come from; `held_out`: they are some of the training rows."""

    option: str
    path: Path
    held_out: bool


def evaluation_source(config: OwnRows, split: str) -> Source:
    """Where the rows of `split` come from. Raises UserError for a split that does not exist."""
    if message := config.missing_split(split):
        raise UserError(message)
    path = config.file_of(split)
    if path is not None:
        return Source(f"--task.{split}_path", Path(path), held_out=False)
    return Source("--task.path", Path(str(config.path)), held_out=True)


def origin(config: OwnRows, split: str | None) -> str:
    """How a message about a user's training rows (None), or about those of `split`, begins; see `Task.origin`."""
    if split is None:
        return f"--task.path: {config.path}"
    source = evaluation_source(config, split)
    return f"{source.option}: {source.path}"


def read_or_hold_out(
    config: OwnRows,
    source: Source,
    read: Callable[[str, Path], list[T]],
    kind: str,
    seed: int,
    *,
    text_of: Callable[[T], Hashable] | None = None,
) -> tuple[list[T], list[T]]:
    """The training and the evaluation items of a user's files; `read(option, path)` gives those of one file.

    `kind`: the word for an item in messages. `text_of`: the text of an item, so that items of one text are held out
    together. Raises UserError as `read` and `hold_out` do, and if some items must be
    held out and there is only one.
    """
    path = Path(str(config.path))
    train = read("--task.path", path)
    if not source.held_out:
        return train, read(source.option, source.path)
    if len(train) < 2:
        raise UserError(f"--task.path: {path} has one {kind}; two or more are needed to hold one out")
    texts = None if text_of is None else [text_of(item) for item in train]
    kept, held_out = hold_out(len(train), config.holdout_share, seed, path, texts=texts, kind=kind)
    return [train[i] for i in kept], [train[i] for i in held_out]


def tell_unused_share(config: OwnRows, split: str) -> None:
    """Warns of a task.holdout_share of the user's that does nothing, as a split of the data is evaluated."""
    if config.holdout_share != OwnRows.model_fields["holdout_share"].default:
        log.warning("--task.holdout_share: does nothing, as the split %s of %s is evaluated", split, config.path)


def hold_out(
    rows: int,
    share: float,
    seed: int,
    path: Path,
    classes: Sequence[str] | None = None,
    *,
    texts: Sequence[Hashable] | None = None,
    kind: str = "row",
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows that stay and of those held out (at least one): disjoint, complete, drawn by seed.

    classes: the class of each row; one row of each class then stays, so that every evaluated class was learned.
    texts: the text of each row; rows of one text are held out together, as a row whose text was trained on would
    measure memory, not learning. Only if no text can be held out so (each is on too many rows, or on all of its
    class), rows are held out one by one.
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
    held_out = _drawn(order, count, classes, range(rows) if texts is None else texts)
    if not len(held_out):
        held_out = _drawn(order, count, classes, range(rows))
    if not len(held_out):
        raise UserError(
            f"--task.holdout_share: each of the {rows} rows of {path} is the only one of its class, so none can be "
            f"held out; give more rows or --task.validation_path"
        )
    return np.setdiff1d(order, held_out), np.sort(held_out)


def _drawn(order: np.ndarray, count: int, classes: Sequence[str] | None, texts: Sequence[Hashable]) -> np.ndarray:
    """The first rows of `order`, at most `count`, with all other rows of their texts; each class keeps a row.

    A text of more rows than are still wanted is passed over. If nothing else is left, the first text of at most a
    quarter of all rows is taken.
    """
    groups: dict[Hashable, list[int]] = {}
    for row in order.tolist():
        groups.setdefault(texts[row], []).append(row)
    left = Counter(classes)

    def fits(group: list[int], room: int) -> bool:
        lost = Counter(classes[row] for row in group) if classes is not None else Counter[str]()
        return len(group) <= room and all(left[name] > number for name, number in lost.items())

    chosen: list[int] = []
    for group in groups.values():
        if fits(group, count - len(chosen)):
            chosen += group
            left.subtract([classes[row] for row in group] if classes is not None else [])
    if not chosen:
        chosen = next((group for group in groups.values() if fits(group, len(order) // 4)), [])
    return np.array(chosen, dtype=order.dtype)
