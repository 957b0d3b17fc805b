"""What a search and its answer need of a run: model, rows, loss, device, and a folder for what they find."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from configs.schema import RunConfig
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from problems.data import Data
from problems.halves import Halves
from problems.machine.compute import Compute
from problems.machine.processes import Processes
from problems.models.load import BaseModel
from problems.tasks.kind import Kind


class Workbench(ABC):
    """A configured run of the command line, or the model and the rows of somebody's own script.

    Of several processes only the first writes files. `stop` says whether a signal has asked to stop. Attribute `told`:
    the trainings whose memory was told.
    """

    estimates_memory: ClassVar[bool] = True
    """Whether the peak of the memory is estimated, and refused where it is not free."""

    config: RunConfig
    folder: RunFolder
    stop: StopRequest
    processes: Processes
    compute: Compute
    told: set[str]

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What is learned."""

    @property
    @abstractmethod
    def data(self) -> Data:
        """The rows, ready for batches; those of D_tr and of D_val together are `train`."""

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What tells these rows from others; empty where nothing resumes."""

    @property
    @abstractmethod
    def weights_dtype(self) -> torch.dtype:
        """The dtype of the base model's frozen weights."""

    @abstractmethod
    def halves(self) -> Halves:
        """Row numbers of D_tr and of D_val."""

    @abstractmethod
    def base(self, *, second_order: bool = False) -> BaseModel:
        """The base model as it was before any training; `second_order` asks for an attention kernel that can be
        differentiated twice."""

    @abstractmethod
    def begin(self) -> None:
        """Called just before the first training step, when nothing refuses the search any more."""
