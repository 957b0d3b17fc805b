"""One kind of rows: those of a file or of the hub, encoded, and the examples of a script.

Rows of one input form a group: a record's references, copies of a text. A group is never on both
sides of a split, and counts as one draw in standard errors.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from torch.utils.data import Subset

from autolora.configs.errors import UserError

Collate = Callable[[list[Any]], dict[str, Tensor]]
"""Examples -> one batch, with `labels`."""
T = TypeVar("T")


@dataclass(frozen=True)
class Splits(Generic[T]):
    """Rows by what they are for: `train` to train on (D_tr and D_val together), `evaluation` by the
    names of their splits, and `unused` training rows that task.train_rows left out.

    `held_out`: whether the evaluation rows were taken out of the training rows.
    """

    train: T
    evaluation: Mapping[str, T]
    unused: T | None = None
    held_out: bool = False

    @property
    def learnable(self) -> list[T]:
        """All rows whose labels a task may know: the training rows, and those that were held out of
        them."""
        return [self.train, *self.evaluation.values()] if self.held_out else [self.train]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that a model reads.

    `examples`: what gives them by their numbers. `collate`: makes a batch of some of them.
    `lengths`: tokens of each row, by which batches are grouped [rows]. `groups`: equal for rows of
    one input [rows]. `name`: what messages call them. `first_label`: None if labels are the column
    `labels` of encoded rows; else they are those that `collate` makes of each example by itself,
    from this place on.
    """

    examples: Any
    collate: Collate
    lengths: np.ndarray
    groups: np.ndarray
    name: str = ""
    first_label: int | None = None

    @classmethod
    def encoded(cls, rows: Dataset, collate: Collate, name: str = "") -> Self:
        """Rows of a task, with the columns `length`, `group` and `labels`."""
        lengths = np.asarray(rows["length"][:])
        return cls(rows, collate, lengths, np.asarray(rows["group"][:]), name)

    @classmethod
    def of_script(
        cls,
        source: Any,
        collate: Callable[[list[Any]], Any],
        *,
        shifted: bool = False,
        by_text: bool = False,
    ) -> Self:
        """The examples of any data set that has a length and an index; each is read once.

        Lengths are the tokens of `input_ids`, else 1. With `by_text`, which says that a text is all
        that is read of an example, those with equal `input_ids` are a group. `shifted`: as of a
        causal language model, the first label does not count, which no token comes before.
        """
        lengths = []
        texts = []
        for number in range(len(source)):
            example = source[number]
            ids = example.get("input_ids") if hasattr(example, "get") else None
            tokens = None if ids is None else np.asarray(ids)
            lengths.append(1 if tokens is None else tokens.size)
            texts.append(None if tokens is None else hash(tokens.tobytes()))
        groups = texts if by_text and None not in texts else range(len(texts))

        def batch(examples: list[Any]) -> dict[str, Tensor]:
            # A plain dict, as Betty would make a tuple of the keys of transformers' BatchEncoding.
            return {**collate(examples)}

        return cls(
            source,
            batch,
            np.asarray(lengths),
            np.asarray(groups),
            first_label=int(shifted),
        )

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> Self:
        """The encoded rows of several splits, one after the other."""
        return cls(
            concatenate_datasets([part.examples for part in parts]),
            parts[0].collate,
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.groups for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, numbers: Iterable[int]) -> list[Any]:
        """The examples with these numbers."""
        places = [int(number) for number in numbers]
        if self.first_label is None:
            examples: list[Any] = self.examples.__getitems__(places)
            return examples
        return [self.examples[place] for place in places]

    def batch(self, numbers: Iterable[int]) -> dict[str, Tensor]:
        """The rows with these numbers as one batch."""
        return self.collate(self.take(numbers))

    def labels(self, numbers: Iterable[int]) -> Sequence[Any]:
        """The labels of the rows with these numbers; 0 for a row without any."""
        examples = self.take(numbers)
        if self.first_label is None:
            return [example["labels"] for example in examples]
        batches = [self.collate([example]) for example in examples]
        return [
            batch["labels"][..., self.first_label :] if "labels" in batch else 0
            for batch in batches
        ]

    def select(self, numbers: Iterable[int]) -> Self:
        """The rows with these numbers. An example of a script is read only when it is needed."""
        places = [int(number) for number in numbers]
        encoded = self.first_label is None
        return replace(
            self,
            examples=self.examples.select(places) if encoded else Subset(self.examples, places),
            lengths=self.lengths[places],
            groups=self.groups[places],
        )

    def split(self, share: float, seed: int, *, by_input: bool) -> tuple[Self, Self]:
        """D_tr and D_val, drawn by seed (paper: 1 : 1); with `by_input`, rows of one input stay
        together. `share`: the part of D_val. Raises UserError for fewer than two rows."""
        groups = self.groups if by_input else np.arange(len(self))
        d_tr, d_val = split_groups(groups, share, seed, "validation_share")
        return self.select(d_tr), self.select(d_val)

    def drawn(self, most: int, seed: int) -> Self:
        """Up to `most` of the rows, drawn by `seed`, in random order.

        Rows are drawn, not groups, so that a group has no more weight than its rows give it; drawn
        rows of one group follow each other."""
        places = np.random.default_rng(seed).permutation(len(self))[:most]
        together = np.argsort(numbered(self.groups[places]), kind="stable")
        return self.select(places[together])

    @cached_property
    def group_numbers(self) -> np.ndarray:
        """The number of each row's group, from 0 in the order of the rows [rows]."""
        return numbered(self.groups)

    @property
    def group_count(self) -> int:
        """How many groups the rows have."""
        return int(self.group_numbers.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of encoded rows (`digest`)."""
        return digest(self.examples)

    def folds(self, count: int) -> np.ndarray:
        """The fold of each row [rows]: `count` folds of whole groups, in the order of the groups,
        whose borders come as close to equal numbers of rows as groups allow. There are at most as
        many folds as groups."""
        ends = np.cumsum(np.bincount(self.group_numbers))
        wanted = len(self) * np.arange(1, count) / count
        last = set()
        if len(ends) > 1:
            last = {int(np.abs(ends[:-1] - place).argmin()) for place in wanted}
        fold: np.ndarray = np.searchsorted(sorted(last), self.group_numbers, side="left")
        return fold

    def by_length(self, numbers: np.ndarray, size: int) -> list[list[int]]:
        """Batches of these rows, of similar length, the longest first."""
        order = numbers[np.argsort(-self.lengths[numbers], kind="stable")].tolist()
        return [order[start : start + size] for start in range(0, len(order), size)]

    def draws(self, folds: np.ndarray, size: int, least: int) -> list[list[int]]:
        """Independent draws of whole groups: the rows of each draw, all of one fold.

        A draw has at most `size` rows, unless one group has more; there are at least `least` draws
        if there are as many groups of one size."""
        draws: list[list[int]] = []
        count = int(folds.max()) + 1
        for fold in range(count):
            rows = np.flatnonzero(folds == fold)
            rows = rows[np.argsort(self.group_numbers[rows], kind="stable")]
            most = max(1, min(size, len(rows) * count // least))
            draw = list[int]()
            borders = 1 + np.flatnonzero(np.diff(self.group_numbers[rows]))
            for group in np.split(rows, borders):
                if draw and len(draw) + len(group) > most:
                    draws.append(draw)
                    draw = []
                draw = draw + group.tolist()
            draws.append(draw)
        return draws


def split_groups(
    groups: Sequence[int] | np.ndarray, share: float, seed: int, key: str
) -> list[np.ndarray]:
    """Numbers of the rows that stay, and of those drawn by seed: whole groups in a random order,
    each that still fits into `share` of the rows, but at least one. If all rows are one group, each
    is a group of its own.

    Raises UserError, naming the setting `key`, for fewer than two rows."""
    if len(groups) < 2:
        raise UserError(
            f"--task.{key}: {len(groups)} rows cannot be divided; allowed: two rows or more"
        )
    owners = numbered(groups)
    sizes = np.bincount(owners)
    left = min(max(round(len(owners) * share), 1), len(owners) - 1)
    fitting = []
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= left:
            fitting.append(group)
            left -= sizes[group]
    drawn = np.isin(owners, fitting or [sizes.argmin()])
    return [np.flatnonzero(~drawn), np.flatnonzero(drawn)]


def numbered(groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """The number of each row's group, counted in the order of the rows [rows]; `groups`: equal for
    rows of one input. If all rows have one input, each is a group of its own."""
    owners, inputs = pd.factorize(np.asarray(groups))
    return owners if len(inputs) > 1 else np.arange(len(owners))


def digest(rows: Dataset) -> str:
    """SHA-256 of the columns, sorted by name, and of the rows in their order; where the rows lie
    does not count.

    The `_fingerprint` of datasets would not do: it tells how rows were made, and differs for equal
    rows."""
    content = hashlib.sha256()
    columns = sorted(rows.column_names)
    content.update(repr(columns).encode())
    for table in rows.with_format("arrow").iter(batch_size=10_000):
        plain = table.select(columns).replace_schema_metadata(None)
        # In Arrow's format for streams every buffer begins with the first row and has no unused
        # bytes.
        for batch in plain.combine_chunks().to_batches():
            content.update(batch.serialize())
    return content.hexdigest()


def keys_of(rows: Dataset, columns: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each row that is equal for equal cells in these columns, of texts or
    of lists [rows]."""
    keys = [np.empty(0, np.uint64)]
    for batch in rows.select_columns(list(columns)).iter(batch_size=10_000):
        cells = [repr(cell) for cell in zip(*batch.values(), strict=True)]
        keys.append(pd.util.hash_array(np.array(cells, dtype=object)))
    return np.concatenate(keys).view(np.int64)


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, in order and evenly spread, the first row among
    them."""
    return np.arange(count) if count <= most else np.arange(most) * count // most
