"""The quickstart's task."""

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import TaskConfig
from autolora.problems.tasks.reviews import SampleReviews
from autolora.problems.tasks.sample import LABELS, make_sample


def test_the_reviews_are_the_sample_of_the_seed() -> None:
    task = SampleReviews(TaskConfig(), seed=3)
    found, sample = task.rows(), make_sample(3)
    assert found.train["sentence"][:] == sample["train"]["sentence"]
    assert list(found.evaluation) == ["test"]
    assert found.evaluation["test"]["label"][:] == sample["test"]["label"]
    assert task.classes == list(LABELS)
    assert task.head()["num_labels"] == 2


def test_another_split_can_be_asked_for_and_a_wrong_one_is_named() -> None:
    task = SampleReviews(TaskConfig(evaluation_split="validation"), seed=0)
    assert list(task.rows().evaluation) == ["validation"]
    with pytest.raises(UserError, match=r"^--task\.evaluation_split: sample has no split 'dev'; it has: train, "):
        SampleReviews(TaskConfig(evaluation_split="dev"), seed=0).rows()
