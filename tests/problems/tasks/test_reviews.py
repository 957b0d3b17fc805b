"""The quickstart's task."""

from autolora.configs.tasks import Sample
from autolora.problems.tasks.reviews import SampleReviews
from autolora.problems.tasks.sample import LABELS, make_sample


def test_the_reviews_are_the_sample_of_the_seed() -> None:
    task = SampleReviews(Sample(), seed=3)
    found, sample = task.rows(), make_sample(3)
    assert found.train["sentence"][:] == sample["train"]["sentence"]
    assert list(found.evaluation) == ["test"]
    assert found.evaluation["test"]["label"][:] == sample["test"]["label"]
    assert task.classes == list(LABELS)
    assert task.head()["num_labels"] == 2


def test_another_split_can_be_asked_for() -> None:
    task = SampleReviews(Sample(evaluation_split="validation"), seed=0)
    assert list(task.rows().evaluation) == ["validation"]
