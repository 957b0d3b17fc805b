"""The base model that stages borrow: loaded when it is first asked for, lent each time as it was
loaded, and released when nothing needs it."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.content import base_digest
from autolora.problems.models.dry_run import mark_unreached
from autolora.problems.models.fused import split
from autolora.problems.models.layers import lora_layers_of, with_modules_to_save
from autolora.problems.models.load import BaseModel, load_base, share_padding, without_weights
from autolora.problems.models.precision import keep_unpacked, train_in_fp32
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.rows import Rows
from autolora.problems.tasks import Task


class Base(Protocol):
    """A base model that can be borrowed; who borrows it again ends the loan before. `dtype`: of its
    frozen weights."""

    dtype: torch.dtype

    def lend(self, *, second_order: bool = False) -> BaseModel:
        """The model before any training, with the task's head and loss. `second_order`: its
        attention can be differentiated twice."""


@dataclass(eq=False)
class BaseOnDisk:
    """The base model of a run, as its settings name it.

    `rows`: the training rows, the shortest of which is sent through the model. `dtype`: of the
    frozen weights. `compute`: where and how the run computes. `targets` and `modules_to_save`:
    where LoRA goes, and what is trained whole. `lora`: settings whose layers are looked up before
    15 GB are loaded; None where ranks name the layers. `tell`: is told the digest of the weights
    once they were read, and may refuse them. `check`: may raise, to stop.
    """

    settings: ModelConfig
    task: Task
    tokenizer: PreTrainedTokenizerBase
    rows: Rows
    dtype: torch.dtype
    compute: Compute
    targets: Sequence[str] = ()
    modules_to_save: Sequence[str] | None = None
    lora: LoraSettings | None = None
    tell: Callable[[str | None], None] = lambda digest: None
    check: Callable[[], None] = lambda: None
    _lent: dict[bool, tuple[BaseModel, Snapshot]] | None = field(default=None, init=False)
    _looked: bool = field(default=False, init=False)
    digest: str | None = field(default=None, init=False)
    """Of the weights, once they were read."""

    @contextmanager
    def loaded_once(self) -> Iterator[None]:
        """Inside, one model is lent again and again, each time as it was loaded. (Another attention
        kernel is another model.)"""
        self._lent = {}
        try:
            yield
        finally:
            self._lent = None

    def lend(self, *, second_order: bool = False) -> BaseModel:
        """See Base. Raises UserError for settings that would otherwise fail, or give useless
        results, only after hours of training."""
        if self._lent is None:
            return self._load(second_order=second_order)
        if second_order not in self._lent:
            self._lent.clear()  # first: two models may not fit into memory
            base = self._load(second_order=second_order)
            self._lent[second_order] = base, Snapshot(base.model, base.trained_whole)
            return base
        base, before = self._lent[second_order]
        before.restore()
        return dataclasses.replace(base)

    def stock(self) -> BaseModel:
        """The model without its projections split, as an adapter of plain PEFT needs it."""
        return self._load(second_order=False, split_projections=False)

    def _load(self, *, second_order: bool, split_projections: bool = True) -> BaseModel:
        self.check()
        targets = self.targets if split_projections else []
        if not self._looked:  # each training loads it again
            self._look_before_loading(targets, self.lora if split_projections else None)
            self._looked = True
        base = load_base(
            self.settings,
            self.task.auto_class,
            second_order=second_order,
            dtype=self.dtype,
            compute=self.compute,
            **self.task.head(),
        )
        self.digest = base_digest(self.settings.name, self.settings.revision)
        self.tell(self.digest)
        keep_unpacked(base.model)
        self.task.adapt(base.model)
        share_padding(base.model, self.tokenizer)
        split(base.model, targets)
        shortest = int(np.argmin(self.rows.lengths))
        batch = send_to_device(self.rows.batch([shortest]), base.model.device)
        mark_unreached(base.model, lambda: base.model(**batch))
        whole = with_modules_to_save(base, self.modules_to_save, targets)
        return train_in_fp32(whole, self.dtype)

    def _look_before_loading(self, targets: Sequence[str], lora: LoraSettings | None) -> None:
        """Raises UserError for names that match no module."""
        outline = without_weights(self.settings, self.task.auto_class, **self.task.head())
        split(outline, targets)
        with_modules_to_save(BaseModel(outline, []), self.modules_to_save or [], targets)
        if lora is not None:
            lora_layers_of(outline, lora)


class BaseOfScript:
    """The model that a script has, without its adapters.

    `targets`: the layers that get LoRA. Every loan first undoes what an earlier training changed in
    the model; `put_back` undoes it at the end.
    """

    def __init__(self, base: BaseModel, targets: Sequence[str]) -> None:
        self._base = base
        self._targets = targets
        self.dtype = dtype_of(base.model)
        self._bare = Snapshot(base.model, base.trained_whole)

    def lend(self, *, second_order: bool = False) -> BaseModel:
        """See Base. Raises UserError if the model's attention lacks second derivatives."""
        self.put_back()
        kernel = getattr(getattr(self._base.model, "config", None), "_attn_implementation", None)
        if second_order and kernel not in (None, "eager"):
            raise UserError(
                "hypergradient: its type needs second derivatives, which the attention "
                f"{kernel!r} of this model lacks; allowed: a type without them, such as "
                "first_order, or a model with the attention 'eager'"
            )
        split(self._base.model, self._targets)
        return train_in_fp32(dataclasses.replace(self._base), self.dtype)

    def put_back(self) -> None:
        """Undoes what was changed in the model, which stays without the script's adapters."""
        self._bare.restore()


def dtype_of(model: Any) -> torch.dtype:
    """The dtype of the first weight with a floating-point type; float32 if there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
