"""One run before anything is trained: its configuration, folder, task, data and base model."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.configs.schema import Autolora, RunConfig, WithLora
from autolora.configs.training import LoraSettings
from autolora.engine.disk.files import write_text
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.program import commit
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Stage, end
from autolora.engine.store.plan import BASE_MODEL, names_of
from autolora.engine.store.sources import inputs_in_files
from autolora.problems.batches import local_parts
from autolora.problems.machine.compute import Compute, choose_compute, same_random_numbers
from autolora.problems.machine.content import File, base_digest, base_files, identify
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.dry_run import mark_unreached
from autolora.problems.models.fused import split
from autolora.problems.models.layers import lora_layers_of, with_modules_to_save
from autolora.problems.models.load import (
    BaseModel,
    load_base,
    load_tokenizer,
    share_padding,
    without_weights,
)
from autolora.problems.models.precision import train_in_fp32, weights_dtype
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks import Task, make_task
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.kinds import Kind
from autolora.problems.tasks.preparation import prepare


class Context:
    """What all stages of a run share; of several processes only the first writes files.

    `stop` says whether a signal has asked the run to stop. `folder`: where the run writes its
    results, if not in the folder that `config` names. `stages`: those of the command, whose
    manifests are compared with what is read. Attribute `known`: the inputs that were read so far,
    by name.
    """

    def __init__(
        self,
        config: RunConfig,
        stop: StopRequest,
        processes: Processes = ALONE,
        folder: RunFolder | None = None,
        stages: Sequence[Stage] = (),
    ) -> None:
        self.config = config
        self._asked = config
        self.folder = folder or RunFolder.of(config)
        self.stop = stop
        self.processes = processes
        self.compute: Compute = choose_compute(config, processes.local)
        self.task: Task = make_task(config)
        self.stages = stages
        self.known: dict[str, Any] = {}
        self._kept: dict[bool, tuple[BaseModel, Snapshot]] | None = None

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
    def kind(self) -> Kind:
        """The kind of labels, and the loss of a batch."""
        return self.task

    def split(self) -> tuple[Rows, Rows]:
        """D_tr and D_val, drawn by seed; by `task.split_by`, rows of one input stay together."""
        task = self.config.task
        by_input = task.split_by == "source"
        return self.data.train.split(
            task.validation_share, self.config.data_seed, by_input=by_input
        )

    def under(self, config: RunConfig) -> Self:
        """The same run with other settings for its training; task, data and device stay the
        same."""
        other = copy(self)
        other.config = config
        return other

    def know(self, name: str, value: Any, where: str) -> None:
        """An input has been read. Raises Changed if a stage in the folder was made from another
        one. `where`: the key and the file that hold it."""
        self.known[name] = value
        for stage in self.stages:
            stage.check_input(name, value, where)

    def know_rows(self) -> None:
        """Compares the encoded rows with those from which the stages in the folder were made."""
        found = self.fingerprint
        data = self.data
        self.know("classes", found["classes"], data.train.name)
        self.know("training rows", found["training"], data.train.name)
        held_out = {key: found[key] for key in ("evaluation", "unused") if key in found}
        names = dict.fromkeys(rows.name for rows in data.evaluation.values())
        self.know("evaluation rows", held_out, ", ".join(names))
        if self.config.sweeps or self.config.searches:
            self.know("seed of the rows", self.config.data_seed, "--task.seed")

    def begin(self, *stages: str) -> None:
        """Writes config.yaml and the manifests of these stages. A stage calls this just before its
        first step, after every check has passed: what has begun in the folder is what they say."""
        made = {"commit": commit(), "device": self.compute.device.type, "bf16": self.compute.bf16}
        if not self.processes.first:
            return
        if stages != ("probe",) or not self.folder.config.exists():
            write_text(self.folder.config, of_folder(self._asked))
        for stage in self.stages:
            # what only an earlier stage has read is compared once this process reads it, too
            if stage.recorded:
                self.known = stage.recorded.inputs | self.known
        self.known |= {
            name: value for name, (value, _) in inputs_in_files(self.config, self.folder).items()
        }
        for stage in self.stages:
            if stage.name in stages and not stage.foreign:
                stage.begin(self.known, names_of(self.config), made, self._base_files())

    def end(self, *stages: str) -> None:
        """Writes down which files these stages have left, now that they are finished."""
        if self.processes.first:
            for stage in self.stages:
                if stage.name in stages:
                    end(stage)

    def _base_files(self) -> dict[str, File]:
        """The base model's files by their paths."""
        model = self.config.model
        return {str(path): identify(path) for path in base_files(model.name, model.revision)}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's tokenizer."""
        return load_tokenizer(self.config.model, **self.task.tokenizer_options)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer of a language model; empty for other tasks."""
        return self.task.ends(self.tokenizer) if isinstance(self.task, Conversations) else []

    @cached_property
    def data(self) -> Splits[Rows]:
        """The task's encoded rows. The first process prepares them, the others find them in the
        cache."""
        self._stop_if_asked()
        if self.config.task.max_length > (most := self.tokenizer.model_max_length):
            raise UserError(
                f"--task.max_length: {self.config.model.name} takes {most} tokens; allowed: a "
                "lower value"
            )
        with self.processes.first_goes_first():
            return prepare(self.task, self.tokenizer, self.config)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Class names, and the number and the digest of the training rows, of each evaluation split
        and of the unused rows, as JSON values: they tell whether rows encoded later are the
        same."""
        data = self.data  # first: the task learns its classes from the rows
        unused = {} if data.unused is None else {"unused": _facts(data.unused)}
        return {
            "classes": list(self.task.classes),
            "training": _facts(data.train),
            "evaluation": {name: _facts(rows) for name, rows in data.evaluation.items()},
            **unused,
        }

    @cached_property
    def weights_dtype(self) -> torch.dtype:
        """The dtype of the base model's frozen weights."""
        return weights_dtype(self.config, self.task.auto_class, self.compute)

    @contextmanager
    def base_loaded_once(self) -> Iterator[None]:
        """Inside, `base` gives one model again and again, each time as it was loaded. (Another
        attention kernel is another model.)"""
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None

    def base(self, *, second_order: bool = False) -> BaseModel:
        """The base model before any training, with the task's head and loss; see `_load`."""
        if self._kept is None:
            return self._load(second_order=second_order)
        if second_order not in self._kept:
            self._kept.clear()  # first: two models may not fit into memory
            base = self._load(second_order=second_order)
            self._kept[second_order] = base, Snapshot(base.model, base.trained_whole)
            return base
        base, before = self._kept[second_order]
        before.restore()
        return dataclasses.replace(base)

    def _load(self, *, second_order: bool) -> BaseModel:
        """A freshly loaded base model with the task's head and loss.

        `second_order`: whether second derivatives are needed, which decides the attention kernel.
        Raises UserError for settings that would otherwise fail, or give useless results, only after
        hours of training, and Changed if a stage in the run's folder was made with other weights.
        """
        config = self.config
        self._stop_if_asked()
        data = self.data  # first: the task learns its classes from the rows
        task = self.task
        dtype = self.weights_dtype
        targets = config.of_lora("target_modules") or []
        if BASE_MODEL not in self.known:  # each training loads it again
            self._look_before_loading(targets)
        base = load_base(
            config.model, task.auto_class, second_order=second_order, dtype=dtype, **task.head()
        )
        digest = base_digest(config.model.name, config.model.revision)
        self.know(BASE_MODEL, digest, f"--model.name: {config.model.name}")
        task.adapt(base.model)
        share_padding(base.model, self.tokenizer)
        split(base.model, targets)
        shortest = int(np.argmin(data.train.lengths))
        batch = send_to_device(data.train.batch([shortest]), base.model.device)
        mark_unreached(base.model, lambda: base.model(**batch))
        whole = with_modules_to_save(base, config.of_lora("modules_to_save"), targets)
        return train_in_fp32(whole, dtype)

    def _stop_if_asked(self) -> None:
        """In a single process, raises Interrupted if a signal came during loading. Several
        processes stop together, after a step."""
        if self.processes.size == 1:
            self.stop.check()

    def _look_before_loading(self, targets: Sequence[str]) -> None:
        """Raises UserError for names that match no module, before 15 GB are loaded. Ranks that are
        there already name their layers themselves."""
        config = self.config
        outline = without_weights(config.model, self.task.auto_class, **self.task.head())
        split(outline, targets)
        with_modules_to_save(
            BaseModel(outline, []), config.of_lora("modules_to_save") or [], targets
        )
        lora = getattr(config, "lora", None)
        given = config.of_lora("ranks_from") is not None or self.folder.ranks.exists()
        if isinstance(lora, LoraSettings) and not given:
            lora_layers_of(outline, lora)

    def try_longest_batch(
        self, model: nn.Module, rows: Rows, size: int, loss: Callable[[dict[str, Any]], Tensor]
    ) -> None:
        """Sends the `size` longest rows once forward and backward, and leaves model and random
        numbers as they were.

        The device refuses an allocation here as it would hours later. No process waits for another
        one."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        longest = np.argsort(-rows.lengths, kind="stable")[:size].tolist()
        before = Snapshot(model)
        with same_random_numbers(self.compute.device):
            (own,), _ = local_parts(rows, longest, size, self.processes)
            batch = send_to_device(rows.collate(own), self.compute.device)
            with self.compute.autocast():
                found = loss(batch)
            # .grad stays None, so that no step sees this batch
            torch.autograd.grad(found, trained, allow_unused=True)
        before.restore()


def _facts(rows: Rows) -> dict[str, Any]:
    return {"rows": len(rows), "sha256": rows.digest}
