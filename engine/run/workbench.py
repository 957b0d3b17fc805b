"""The interface through which a search and its answer use a run: model, rows, loss, device and result folder."""

from abc import ABC, abstractmethod

import torch

from autolora.configs.schema import Autolora, RunConfig, WithLora
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.data import Data, Halves
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import Processes
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.given import Kind


class Workbench(ABC):
    """A run of the command line (`Context`), or the model and rows of a script (`ScriptBench`).

    Of several processes only the first writes files. `stop` says whether a signal has asked to stop. `told`: what was
    checked or told of the base model before, as each training loads it again.
    """

    config: RunConfig
    folder: RunFolder
    stop: StopRequest
    processes: Processes
    compute: Compute
    told: set[str]

    @property
    def searched(self) -> Autolora:
        """The settings of a run that searches by gradients."""
        assert isinstance(self.config, Autolora)
        return self.config

    @property
    def adapted(self) -> WithLora:
        """The settings of a run that trains LoRA."""
        assert isinstance(self.config, WithLora)
        return self.config

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """The kind of labels, and the loss of a batch."""

    @property
    @abstractmethod
    def data(self) -> Data:
        """The rows, ready for batches; `train` holds those of D_tr and of D_val together."""

    @property
    @abstractmethod
    def weights_dtype(self) -> torch.dtype:
        """The dtype of the base model's frozen weights."""

    @abstractmethod
    def halves(self) -> Halves:
        """Row numbers of D_tr and of D_val."""

    @abstractmethod
    def base(self, *, second_order: bool = False) -> BaseModel:
        """The base model as it was before any training; `second_order` asks for an attention kernel with second
        derivatives."""

    @abstractmethod
    def begin(self, *stages: str) -> None:
        """Called just before the first step of these stages, after all checks that can refuse them."""
