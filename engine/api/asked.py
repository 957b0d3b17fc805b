"""What a script gives and asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from configs.schema import HypergradientConfig, SearchConfig
from configs.schema_answer import AnswerConfig
from problems.tasks.given import LossOf

Precision = Literal["auto", "fp32", "bf16"]
Collator = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Source:
    """A script's rows, with what makes batches and a loss of them.

    `validation`: the rows that alpha is learned from; None: half of `train`. `plain`: whether the loss is just the
    mean log loss of the labels.
    """

    train: Any
    validation: Any
    collate: Collator
    loss: LossOf | None
    plain: bool


@dataclass(frozen=True)
class Settings:
    """The settings of the search and of its answer; `answer` None: the default of `learn_ranks`."""

    search: SearchConfig
    hypergradient: HypergradientConfig
    answer: AnswerConfig | None
    seed: int
    precision: Precision
