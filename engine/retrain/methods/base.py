"""What a method is to the rest of the program: a model to be trained by the one trainer, and what is kept of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from configs.errors import UserError
from configs.schema import RunConfig
from engine import ranks
from engine.ranks import RankRecord
from engine.run.folder import RunFolder
from problems.models.layers import layer_shapes
from problems.models.load import BaseModel
from problems.tasks import Task


@dataclass(frozen=True)
class Setting:
    """The run that a method works for; `rows` training rows."""

    config: RunConfig
    folder: RunFolder
    task: Task
    tokenizer: PreTrainedTokenizerBase
    rows: int
    writes: bool = True
    """Whether this process writes the files of the run."""


@dataclass(frozen=True)
class Prepared:
    """A model to be trained, its LoRA ranks where they are known before, what runs beside the training, the head's
    modules."""

    model: nn.Module
    record: RankRecord | None = None
    callbacks: Sequence[TrainerCallback] = ()
    head: Sequence[str] = ()
    zeros: int = 0
    """Numbers among the trainable parameters that stay 0: those of B outside a part's block of outputs."""


class Method(ABC):
    """One way to adapt the base model; METHODS lists them all."""

    rules: ClassVar[Sequence[str] | None] = ()
    """Rank rules of the ranks.json that this method writes; None: any but the other methods'."""
    reads_ranks: ClassVar[bool] = False
    """Whether it starts from the ranks.json that lora.ranks_from names."""

    @abstractmethod
    def prepare(self, base: BaseModel, setting: Setting) -> Prepared:
        """The model to be trained. Raises UserError for what the user must change."""

    @abstractmethod
    def save(self, prepared: Prepared, setting: Setting) -> RankRecord | None:
        """Writes what the run folder keeps of the trained model; returns its final ranks, None without LoRA."""

    def refuse_other_ranks(self, folder: RunFolder, taken: set[str]) -> None:
        """Raises UserError when the folder holds another method's ranks.json, which this one would replace or use."""
        if not folder.ranks.exists():
            return
        rule = ranks.load(folder.ranks).rule
        if rule in taken if self.rules is None else rule not in self.rules:
            raise UserError(
                f"--method: {folder.ranks} holds ranks of rule {rule!r}, which come from another method; "
                f"--name starts another run, --stage all --overwrite replaces this one"
            )


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer, or part of one, that could take LoRA: the numbers in one component."""
    return {name: sum(shape) for name, shape in layer_shapes(model).items()}


def ranks_from(config: RunConfig, task: Task) -> Path:
    """The file that lora.ranks_from names, {seed}, {task} and {runs} filled in."""
    path = str(config.lora.ranks_from)
    for name, value in {"seed": config.seed, "task": task.name, "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()
