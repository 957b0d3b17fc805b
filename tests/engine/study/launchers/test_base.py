"""The order of jobs."""

from __future__ import annotations

import pytest

from configs.errors import UserError
from engine.study.launchers.base import in_order
from tests.helpers.studies import job


def test_jobs_come_after_those_that_they_read_and_else_keep_their_order() -> None:
    jobs = [job("shuffled", "learned", "finished before"), job("lora"), job("learned"), job("full")]
    assert [j.name for j in in_order(jobs)] == ["lora", "learned", "shuffled", "full"]
    with pytest.raises(UserError, match=r"^--lora\.ranks_from: the cells b, a|^--lora\.ranks_from: the cells a, b"):
        in_order([job("a", "b"), job("b", "a")])
