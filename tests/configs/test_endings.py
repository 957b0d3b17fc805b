"""Which files tasks read, by the endings of their names; capitals do not matter."""

from pathlib import Path

import pytest

from autolora.configs.endings import TABLES, TAGGED, ending, refuse_other_ending
from autolora.configs.errors import UserError


def test_capitals_in_an_ending_do_not_matter() -> None:
    assert [ending(name) for name in ("a/D.CSV", Path("d.Parquet"), "d", "a.b/d", "d.conll.gz")] == [
        ".csv", ".parquet", "", "", ".gz",
    ]  # fmt: skip
    refuse_other_ending("--task.path", "D.CSV", TABLES)


def test_another_ending_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(
        UserError, match=r"^--task\.path: 'd\.xlsx' is not allowed; allowed: a file that ends in \.con"
    ):
        refuse_other_ending("--task.path", "d.xlsx", TAGGED)
