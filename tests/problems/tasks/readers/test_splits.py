"""Which rows of a user's files are evaluated."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Table
from autolora.problems.tasks.readers.splits import evaluation_source, hold_out, origin


def test_the_source_is_the_option_that_named_the_file() -> None:
    config = Table(type="text", path="d.csv", validation_path="v.csv", test_path="t.csv")
    assert evaluation_source(config, "validation") == ("--task.validation_path", Path("v.csv"), False)
    assert evaluation_source(config, "test") == ("--task.test_path", Path("t.csv"), False)
    assert evaluation_source(Table(type="text", path="d.csv"), "validation") == ("--task.path", Path("d.csv"), True)


def test_the_origin_of_rows_is_the_option_and_the_file() -> None:
    config = Table(type="text", path="d.csv", test_path="t.csv")
    assert origin(config, None) == "--task.path: d.csv"
    assert origin(config, "test") == "--task.test_path: t.csv"
    assert origin(config, "validation") == "--task.path: d.csv", "held out of the training rows"


def test_no_training_rows_stand_in_for_a_test_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"^--task\.evaluation_split: 'test' needs --task\.test_path$"):
        evaluation_source(Table(type="text", path="d.csv"), "test")
    with pytest.raises(UserError, match=r"^--task\.evaluation_split: 'dev' is not allowed; allowed: validation, test"):
        evaluation_source(Table(type="text", path="d.csv"), "dev")


@pytest.mark.parametrize(("rows", "share", "count"), [(40, 0.25, 10), (41, 0.25, 10), (2, 0.01, 1), (100, 0.99, 99)])
def test_held_out_rows_and_those_that_stay_are_all_rows(rows: int, share: float, count: int) -> None:
    kept, held_out = hold_out(rows, share, seed=0, path=Path("d.csv"))
    assert len(held_out) == count
    assert sorted([*kept, *held_out]) == list(range(rows))
    assert list(kept) == sorted(kept)
    assert list(held_out) == sorted(held_out)


def test_the_seed_draws_them() -> None:
    drawn = [tuple(hold_out(40, 0.25, seed, Path("d.csv"))[1]) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("rows", "share"), [(10, 0.99), (1, 0.1)])
def test_a_share_that_leaves_nothing_to_train_on_is_named(rows: int, share: float) -> None:
    with pytest.raises(
        UserError, match=rf"^--task\.holdout_share: {share} of the {rows} rows of d.csv leaves none to train on; "
    ):
        hold_out(rows, share, seed=0, path=Path("d.csv"))


def test_the_last_row_of_a_class_stays_and_another_is_held_out_for_it() -> None:
    """Rare classes in every place: none may be unknown in the training rows."""
    for seed in range(20):
        classes = ["many"] * 12
        rare = hold_out(12, 0.25, seed, Path("d.csv"))[1][0]
        classes[rare] = "rare"
        kept, held_out = hold_out(12, 0.25, seed, Path("d.csv"), classes)
        assert rare in kept
        assert len(held_out) == 3
        assert sorted([*kept, *held_out]) == list(range(12))
        assert held_out.tolist() == hold_out(12, 0.25, seed, Path("d.csv"), classes)[1].tolist()


def test_common_classes_change_nothing() -> None:
    for seed in range(5):
        plain, known = (hold_out(40, 0.25, seed, Path("d.csv"), classes) for classes in (None, ["x", "y"] * 20))
        assert [part.tolist() for part in plain] == [part.tolist() for part in known]


def test_a_large_share_leaves_one_row_of_each_class() -> None:
    kept, held_out = hold_out(6, 0.8, 0, Path("d.csv"), ["x", "x", "y", "y", "z", "z"])
    assert len(held_out) == 3
    assert sorted(int(row) // 2 for row in kept) == [0, 1, 2]


def test_rows_that_are_all_the_only_ones_of_their_class_are_named() -> None:
    with pytest.raises(UserError, match=r"^--task\.holdout_share: each of the 3 rows of d\.csv is the only one "):
        hold_out(3, 0.1, 0, Path("d.csv"), ["x", "y", "z"])


def test_rows_of_one_text_are_held_out_together() -> None:
    """A copy of a trained row was held out, so that the accuracy told of memory."""
    texts = [f"text {row // 3}" if row < 30 else f"text {row}" for row in range(100)]
    for seed in range(20):
        kept, held_out = hold_out(100, 0.1, seed, Path("d.csv"), ["x", "y"] * 50, texts=texts)
        assert sorted([*kept, *held_out]) == list(range(100))
        assert len(held_out) == 10
        assert not {texts[row] for row in kept} & {texts[row] for row in held_out}


def test_texts_that_are_all_different_change_nothing() -> None:
    for seed in range(5):
        plain, told = (hold_out(40, 0.25, seed, Path("d.csv"), texts=texts) for texts in (None, list(range(40))))
        assert [part.tolist() for part in plain] == [part.tolist() for part in told]


def test_a_text_of_more_rows_than_the_share_is_held_out_if_there_is_no_other() -> None:
    texts = [row // 4 for row in range(20)]
    held_out = hold_out(20, 0.1, 0, Path("d.csv"), texts=texts)[1]
    assert len(held_out) == 4
    assert len({texts[row] for row in held_out}) == 1


def test_rows_are_held_out_one_by_one_if_no_whole_text_can_be() -> None:
    """A class of one text, as in many tiny tables: its class must stay known."""
    classes = ["x"] * 6 + ["y"] * 6
    kept, held_out = hold_out(12, 0.1, 0, Path("d.csv"), classes, texts=classes)
    assert len(held_out) == 1
    assert {classes[row] for row in kept} == {"x", "y"}
