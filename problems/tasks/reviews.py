"""The quickstart's task: the sentences of problems/tasks/sample.py as a classification task."""

from functools import lru_cache
from typing import Any

from datasets import Dataset

from autolora.configs.tasks import Sample
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.classification import TextClassification
from autolora.problems.tasks.readers.hub import split_of
from autolora.problems.tasks.sample import LABELS, make_sample


class SampleReviews(TextClassification):
    """Review sentences made from a seed; no file and no network is read."""

    name = "sample"

    def __init__(self, config: Sample, seed: int) -> None:
        super().__init__(["sentence"], config.max_length, config.metrics or ["accuracy"])
        self.evaluation_split = config.evaluated_split
        self.seed = seed

    def rows(self) -> Rows:
        sample = _sample(self.seed)
        evaluation = split_of(sample, self.evaluation_split, "sample")
        self.classes = list(LABELS)
        return Rows(Dataset.from_dict(sample["train"]), {self.evaluation_split: Dataset.from_dict(evaluation)})


@lru_cache(maxsize=4)  # several runs of a study have the same seed
def _sample(seed: int) -> dict[str, dict[str, list[Any]]]:
    """The sentences of a seed; callers must not change them."""
    return make_sample(seed)
