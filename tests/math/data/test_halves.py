"""D_tr and D_val: disjoint, complete, of the right share, drawn by seed; of generation no source in
both."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from datasets import Dataset

from autolora.configs.errors import UserError
from autolora.engine.inputs import split_of
from autolora.problems.rows import split_groups
from tests.helpers.command import parse
from tests.helpers.encoded import encoded


def split(rows: Sequence[Hashable], share: float, seed: int) -> list[np.ndarray]:
    return split_groups(rows, share, seed, "validation_share")


# Texts a source, as in E2E: mostly one to ten, some many.
TEXTS = np.random.default_rng(0).geometric(0.15, size=300)
SOURCES = [f"source {number}" for number, count in enumerate(TEXTS) for _ in range(count)]


@pytest.mark.parametrize(
    ("rows", "share", "validation"), [(64, 0.5, 32), (7, 0.5, 4), (100, 0.25, 25), (2, 0.5, 1)]
)
def test_the_split_is_disjoint_complete_and_of_the_right_share(
    rows: int, share: float, validation: int
) -> None:
    d_tr, d_val = split(range(rows), share, seed=0)
    assert len(d_val) == validation
    assert sorted([*d_tr, *d_val]) == list(range(rows))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
def test_no_source_is_in_both_halves_and_the_sizes_are_those_of_the_share(share: float) -> None:
    rows = np.random.default_rng(1).permutation(SOURCES).tolist()
    d_tr, d_val = split(rows, share, seed=3)
    assert sorted([*d_tr, *d_val]) == list(range(len(rows)))
    assert not {rows[i] for i in d_tr} & {rows[i] for i in d_val}
    sizes = Counter(rows)
    assert abs(len(d_val) - len(rows) * share) <= max(sizes.values()) / 2 + 1
    means = [np.mean([sizes[rows[i]] for i in half]) for half in (d_tr, d_val)]
    assert means[0] == pytest.approx(means[1], rel=0.35), "sources of few and of many texts in both"


def test_rows_of_one_group_alone_are_divided_one_by_one() -> None:
    d_tr, d_val = split(["a"] * 9, 0.5, 7)
    assert (sorted([*d_tr, *d_val]), len(d_val)) == (list(range(9)), 4)
    with pytest.raises(UserError, match=r"--task.validation_share: 1 rows"):
        split(["a"], 0.5, 0)


@pytest.mark.parametrize("by", ["row", "source"])
def test_the_rows_are_split_by_the_seed_of_the_data(by: str) -> None:
    """With another --seed, rows of D_val would come into D_tr, and a verdict's pairs would not
    share their rows."""
    groups = [int(name.split()[1]) for name in SOURCES[:200]]
    given = ("--task.type", "text", "--task.path", "x.jsonl", "--task.split_by", by)
    table = Dataset.from_dict({"number": range(len(groups)), "group": groups})
    whole = encoded(table, dict)

    def halves(*more: str) -> list[list[int]]:
        config = parse([*given, *more]).config
        return [rows.examples["number"][:] for rows in split_of(config, whole)]

    assert halves("--seed", "1", "--task.seed", "5") == halves("--seed", "2", "--task.seed", "5")
    assert halves("--seed", "1") == halves("--seed", "2", "--task.seed", "1")
    assert halves("--seed", "1") != halves("--seed", "2")
    d_tr, d_val = ({groups[row] for row in half} for half in halves())
    assert bool(d_tr & d_val) == (by == "row")
