"""The stages of a run, each from the files of the one before: search -> ranks.json -> retrain -> adapter -> report."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import resource
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from configs.cli import Request, to_yaml
from configs.schema import RunConfig
from engine import checkpoint, export, ranks
from engine.continuing import refuse_other_config
from engine.hypergradients import HYPERGRADIENTS
from engine.interrupt import StopRequest
from engine.progress import SearchProgress
from engine.report import write_report
from engine.retrain import adapter_config, attach_ranks, layer_shapes, start_from_search
from engine.run_folder import RunFolder, open_folder, remove, write_json, write_text
from engine.search import RanksSettled, SearchEngine, build_engine
from engine.search_log import SearchLog
from engine.tracking import Wandb
from engine.trainer import fit
from problems.compute import Compute, choose_compute, seed_everything
from problems.data import Data, prepare, split_indices
from problems.lora import attach, lora_config
from problems.models import load_base, load_tokenizer
from problems.tasks import Task, make_task

log = logging.getLogger("autolora")


class Run:
    """One run in its folder: what the stages share."""

    def __init__(self, config: RunConfig, folder: RunFolder, wandb: Wandb, stop: StopRequest) -> None:
        self.config = config
        self.folder = folder
        self.wandb = wandb
        self.stop = stop
        self.compute: Compute = choose_compute(config)
        self.task: Task = make_task(config)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.config.model)

    @cached_property
    def data(self) -> Data:
        return prepare(self.task, self.tokenizer, self.config)

    def build_search(self, *, second_order: bool) -> SearchEngine:
        """Both problems on this run's data, untrained; `second_order` chooses the attention kernel."""
        config = self.config
        seed_everything(config.seed)
        d_tr, d_val = split_indices(len(self.data.train), config.task.validation_share, config.seed)
        base = load_base(config.model, self.task.auto_class, second_order=second_order, **self.task.head())
        if second_order and config.model.attention == "auto":
            log.info("attention: eager, as second derivatives are needed")
        model = attach(base.model, lora_config(config.lora, self.task.peft_type, base.new_modules))
        train = self.data.train
        engine = build_engine(config, model, train.select(d_tr), train.select(d_val), self.data.collate, self.compute)
        log.info(
            "search: %d layers x k = %d, D_tr %d rows, D_val %d rows, %s, %s",
            len(engine.lora.gates.names), config.lora.k, len(d_tr), len(d_val),
            self.compute.device, "bf16" if self.compute.bf16 else "fp32",
        )  # fmt: skip
        return engine

    def search(self) -> None:
        """Stage 1: writes search/ and ranks.json; goes on from search/checkpoint when there is one."""
        config, folder = self.config, self.folder
        engine = self.build_search(second_order=HYPERGRADIENTS[config.hypergradient.type].second_order)
        search_log = SearchLog(engine, RanksSettled(config.search.patience), config, folder, self.wandb, self.stop)
        search_log.resume()
        with SearchProgress(config.search.steps, engine.global_step) as search_log.progress:
            engine.after_step = search_log.after_step
            engine.run()
        self._record(engine, search_log)

    def _record(self, engine: SearchEngine, search_log: SearchLog) -> None:
        """Writes what stage 2 and the report read, ranks.json last."""
        folder, gates = self.folder, engine.lora.gates
        search_log.trajectory.write(folder.trajectory)
        for name, curves in search_log.trajectory.by_layer():
            self.wandb.trajectories(f"trajectories/{name}", search_log.trajectory.steps, curves)
        names = {id(p): name for name, p in engine.lora.module.named_parameters()}
        save_file({names[id(p)]: p.detach().cpu().contiguous() for p in engine.lora.trained}, folder.search_weights)
        write_json(
            folder.search_summary,
            {
                "steps": engine.global_step,
                "seconds": search_log.seconds,
                "stopped": "ranks settled" if engine.global_step < self.config.search.steps else "steps used up",
                "passes": vars(engine.lora.passes),
                "peak_memory_mib": peak_memory(self.compute),
            },
        )
        record = ranks.record_of(
            gates.names,
            engine.alpha(),
            engine.contribution(),
            self.config.search.constraint,
            gates.parameters_per_rank(),
        )
        ranks.save(record, folder.ranks)
        checkpoint.clear(folder.search_checkpoint)

    def retrain(self) -> None:
        """Stage 2: writes adapter/ (merged/, adapter_padded/ when asked) and metrics.json."""
        config, folder = self.config, self.folder
        record = ranks.load(folder.ranks)
        data = self.data
        seed_everything(config.seed)
        base = load_base(config.model, self.task.auto_class, **self.task.head())
        shapes = layer_shapes(base.model)
        ranks.check_against(record, shapes, folder.ranks)
        model = attach_ranks(base.model, adapter_config(config, record, self.task, base.new_modules), record)
        if config.retrain.init == "search":
            start_from_search(model, config, record, folder.search_weights)
        lora_parameters = ranks.count_parameters(record.kept, {name: sum(shape) for name, shape in shapes.items()})
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        log.info("retrain: %d rows, LoRA parameters %s", len(data.train), f"{lora_parameters:,}")
        fitted = fit(model, data, self.task, config, self.compute, folder.retrain, self.stop)
        export.save_adapter(model, self.tokenizer, folder.adapter)
        searched = read_json(folder.search_summary)
        seconds = {"search": searched.get("seconds"), "retrain": fitted.seconds}
        result = {
            "method": "autolora",
            "task": self.task.name,
            "split": self.task.evaluation_split,
            "metrics": {name: value for name, value in fitted.metrics.items() if name != "loss"},
            "loss": fitted.metrics.get("loss"),
            "trainable_parameters": trainable,
            "lora_parameters": lora_parameters,
            "mean_rank": record.mean_rank,
            "seed": config.seed,
            "seconds": seconds | {"total": sum(s for s in seconds.values() if s is not None)},
            "steps": {"search": searched.get("steps"), "retrain": fitted.steps},
            "peak_memory_mib": max(peak_memory(self.compute), searched.get("peak_memory_mib", 0.0)),
            "versions": versions(),
        }
        if config.export.padded:
            export.save_padded(folder.adapter, folder.padded)
        if config.export.merged:
            export.save_merged(model, self.tokenizer, folder.merged)
        write_json(folder.metrics, result)
        remove(folder.retrain)
        self.wandb.log({f"eval/{name}": value for name, value in fitted.metrics.items()})

    def report(self) -> None:
        """Draws figures/ and report.html from the folder's files."""
        for name, path in write_report(self.config, self.folder).items():
            self.wandb.image(f"figures/{name}", path)


def run_stages(request: Request, stop: StopRequest, *, draw: bool = True) -> RunFolder:
    """Runs what the request asks for; unfinished stages go on where they were. Returns the folder with the results.

    `draw` off leaves out the report: the cells of a study are looked at together.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    folder = open_folder(request.config, request.stage, request.overwrite)
    config, stage = request.config, request.stage
    refuse_other_config(config, folder)
    wandb = None
    try:
        if stage != "report":
            write_text(folder.config, to_yaml(config))
        wandb = Wandb(config if stage != "report" else _untracked(config), folder.root, dataclasses.asdict(config))
        run = Run(config, folder, wandb, stop)
        if stage in ("all", "search") and not folder.ranks.exists():
            run.search()
        if stage in ("all", "retrain"):
            run.retrain()
        if draw:
            run.report()
        return folder
    finally:
        if wandb is not None:
            wandb.finish(read_json(folder.metrics))


def _untracked(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, wandb="disabled"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, or nothing when there is no such file (ranks written by hand have no search)."""
    if not path.exists():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def peak_memory(compute: Compute) -> float:
    """Peak of this process so far in MiB: of the GPU where one is used, else resident memory."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    packages = ("betty-ml", "torch", "transformers", "peft", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
