"""A search that a script starts on its own model and rows; it leaves both as they were."""

import dataclasses
from pathlib import Path

import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.store.folder import RunFolder
from autolora.problems.machine.compute import choose_compute
from autolora.problems.machine.processes import ALONE
from autolora.problems.models.fused import split
from autolora.problems.models.load import BaseModel
from autolora.problems.models.precision import train_in_fp32
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks.kinds import LabelKind


class ScriptContext(Context):
    """The model and rows of a script.

    `base`: the model and the modules that are trained whole. `rows`: all rows; the last
    `validation` of them are D_val, those before them D_tr (0: both are drawn from all rows by
    seed). `folder`: where the search writes its files. Every `base()` first undoes what an earlier
    training changed in the model; `put_back` undoes it at the end.
    """

    def __init__(
        self,
        config: RunConfig,
        base: BaseModel,
        kind: LabelKind,
        rows: Rows,
        validation: int,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.config = config
        self.folder = RunFolder(folder)
        self.stop = StopRequest()
        self.processes = ALONE
        self.compute = dataclasses.replace(choose_compute(config, device.index or 0), device=device)
        self.data = Splits(rows, {})
        self.weights_dtype = dtype_of(base.model)
        self._base = base
        self._kind = kind
        self._validation = validation
        self._bare = Snapshot(base.model, base.trained_whole)

    @property
    def kind(self) -> LabelKind:
        """The kind of labels, and the loss of a batch."""
        return self._kind

    def split(self) -> tuple[Rows, Rows]:
        """D_tr and D_val."""
        rows = self.data.train
        if not self._validation:
            task = self.config.task
            return rows.split(task.validation_share, self.config.data_seed, by_input=True)
        count = len(rows) - self._validation
        return rows.select(range(count)), rows.select(range(count, len(rows)))

    def base(self, *, second_order: bool = False) -> BaseModel:
        """The model before any training, without the script's adapters.

        Raises UserError if `second_order` is asked for and the model's attention lacks second
        derivatives."""
        self.put_back()
        kernel = getattr(getattr(self._base.model, "config", None), "_attn_implementation", None)
        if second_order and kernel not in (None, "eager"):
            raise UserError(
                f"hypergradient: {self.searched.hypergradient.type} needs second derivatives, "
                f"which the attention {kernel!r} of this model lacks; allowed: a type without "
                "them, such as first_order, or a model with the attention 'eager'"
            )
        split(self._base.model, self.searched.lora.target_modules)
        return train_in_fp32(dataclasses.replace(self._base), self.weights_dtype)

    def begin(self, *stages: str) -> None:
        """Does nothing: a search of a script never resumes."""

    def put_back(self) -> None:
        """Undoes what the search changed in the model, which stays without the script's
        adapters."""
        self._bare.restore()


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """The dtype of the first weight with a floating-point type; float32 if there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
