"""The quickstart's task: the sentences of problems/tasks/sample.py as a classification task."""

from __future__ import annotations

from datasets import Dataset

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.base import Rows
from problems.tasks.classification import TextClassification
from problems.tasks.sample import LABELS, make_sample


class SampleReviews(TextClassification):
    """Review sentences made from a seed; no file and no network is read."""

    name = "sample"

    def __init__(self, config: TaskConfig, seed: int) -> None:
        super().__init__(["sentence"], config.max_length, config.metrics or ["accuracy"])
        self.evaluation_split = config.evaluation_split or "test"
        self.seed = seed

    def rows(self) -> Rows:
        sample = make_sample(self.seed)
        if self.evaluation_split not in sample:
            raise UserError(
                f"--task.evaluation_split: sample has no split {self.evaluation_split!r}; it has: {', '.join(sample)}"
            )
        self.classes = list(LABELS)
        evaluation = {self.evaluation_split: Dataset.from_dict(sample[self.evaluation_split])}
        return Rows(Dataset.from_dict(sample["train"]), evaluation)
