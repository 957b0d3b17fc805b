"""What a run was evaluated on, in words, and the standard error of its main metric."""

import math
from collections.abc import Mapping
from pathlib import Path

from autolora.configs.places import is_hub_name
from autolora.configs.schema import RunConfig
from autolora.configs.tasks import OwnRows

_PARTS = {0.1: "tenth", 0.2: "fifth", 0.25: "quarter", 0.5: "half"}


def evaluated_on(config: RunConfig, name: str, split: str, held_out: bool) -> str:
    """The evaluation rows in words: their file, `train.csv, held-out tenth`, or the task's `name` and `split`.

    `held_out`: whether the task took them out of the training rows.
    """
    task = config.task
    if not isinstance(task, OwnRows):
        return f"{name}, {split}"
    own = task.file_of(split)
    if own is not None:
        return Path(own).name
    path = str(task.path)
    if not held_out:  # a data set with splits of its own
        return f"{path}, {split}"
    part = _PARTS.get(task.holdout_share, f"{100 * task.holdout_share:g} %")
    return f"{path if is_hub_name(path) else Path(path).name}, held-out {part}"


def standard_error(metrics: Mapping[str, float], inputs: int) -> float | None:
    """The standard error of the main metric if it is the accuracy on rows of `inputs` inputs; None for others.

    This is the estimate of Agresti and Coull (1998): it adds two right and two wrong rows, so that the accuracy of a
    few rows that are all right does not look certain.
    """
    name, value = next(iter(metrics.items()))
    if name != "accuracy" or not inputs:
        return None
    share = (value * inputs + 2) / (inputs + 4)
    return math.sqrt(share * (1 - share) / (inputs + 4))
