"""The stages of a run, each from the files of the one before: search -> ranks.json -> retrain -> adapter -> report."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.files import to_yaml
from configs.requests import Request
from configs.rules import SEARCHING, WITHOUT_LORA
from configs.schema import RunConfig
from engine import ranks
from engine.disk import checkpoint
from engine.disk.files import read_json, remove, write_json, write_text
from engine.disk.lock import locked
from engine.report.stage import write_report
from engine.retrain.fit import fit
from engine.retrain.generate import generate_and_score
from engine.retrain.methods import METHODS, Setting, refuse_other_ranks
from engine.retrain.result import result_of
from engine.retrain.trials import choose_learning_rate, choose_ranks, with_rate
from engine.run.faults import explained
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.run.opening import nothing_left_when_refused, open_folder
from engine.run.resources import forget_peak, peak_memory
from engine.run.resuming import refuse_other_config, refuse_other_weights
from engine.search.engine import RanksSettled, SearchEngine, build_engine
from engine.search.health import warn_about, warn_about_parts
from engine.search.hook import SearchLog
from engine.study.folder import refuse_study
from engine.terminal.live_view import SearchProgress
from engine.tracking.login import wandb_mode
from engine.tracking.wandb_run import Wandb
from problems.data import Data, prepare, split_indices
from problems.hypergradients import HYPERGRADIENTS
from problems.machine.compute import Compute, choose_compute, seed_everything
from problems.machine.processes import ALONE, Processes
from problems.models.attach import attach_components
from problems.models.layers import refuse_large_k
from problems.models.load import BaseModel, load_base, load_tokenizer, share_padding
from problems.models.next_token import refuse_other_models
from problems.models.positions import refuse_long_rows, refuse_long_texts
from problems.models.whole import tell_of_pooler, with_modules_to_save
from problems.tasks import Task, make_task
from problems.tasks.generation import Generation

log = logging.getLogger("autolora")


class Run:
    """One run in its folder: what the stages share. Of several processes only the first writes."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, wandb: Wandb, stop: StopRequest, processes: Processes = ALONE
    ) -> None:
        self.config = config
        self.folder = folder
        self.wandb = wandb
        self.stop = stop
        self.processes = processes
        self.compute: Compute = choose_compute(config, processes.local)
        self.task: Task = make_task(config)
        self._pooler_told = False

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.config.model, **self.task.tokenizer_options)

    @cached_property
    def data(self) -> Data:
        with self.processes.first_goes_first():
            return prepare(self.task, self.tokenizer, self.config)

    def base(self, *, second_order: bool = False) -> BaseModel:
        """The base model with the task's head and loss; `second_order` chooses the attention kernel."""
        base = load_base(self.config.model, self.task.auto_class, second_order=second_order, **self.task.head())
        self.task.adapt(base.model)
        share_padding(base.model, self.tokenizer)
        self._refuse_late_failures(base.model)
        return self._with_modules_to_save(base)

    def _refuse_late_failures(self, model: PreTrainedModel) -> None:
        """Raises UserError for what would fail, or be found to be nonsense, only after hours of training."""
        refuse_long_rows(model, self.data, self.config)
        if isinstance(self.task, Generation):
            (rows,) = self.data.evaluation.values()
            refuse_long_texts(model, self.tokenizer, rows["source"][:], self.config)
            refuse_other_models(model, self.config.model.name)

    def _with_modules_to_save(self, base: BaseModel) -> BaseModel:
        lora = self.config.lora
        targets = [] if self.config.method in WITHOUT_LORA else lora.target_modules
        whole = with_modules_to_save(base, lora.modules_to_save, targets)
        if not self._pooler_told:
            self._pooler_told = True
            if self.config.method != "full":
                tell_of_pooler(whole, targets)
        return whole

    def build_search(self, *, second_order: bool) -> SearchEngine:
        """Both problems on this run's data, untrained; `second_order` chooses the attention kernel."""
        config = self.config
        seed_everything(config.seed)
        d_tr, d_val = split_indices(len(self.data.train), config.task.validation_share, config.seed)
        warn_about_parts(self.data.train["labels"], d_tr, d_val, self.task.head().get("id2label", {}))
        base = self.base(second_order=second_order)
        if second_order and config.model.attention == "auto":
            log.info("attention: eager, as second derivatives are needed")
        refuse_large_k(base.model, config.lora)
        model = attach_components(base.model, config.lora, self.task.peft_type, base.trained_whole)
        train, collate = self.data.train, self.data.collate
        engine = build_engine(
            config, model, train.select(d_tr), train.select(d_val), collate, self.compute, self.processes
        )
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
        gates = engine.lora.gates
        with SearchProgress(config.search.steps, engine.global_step, gates.names, gates.k) as search_log.progress:
            engine.after_step = search_log.after_step
            engine.run()
        if self.processes.first:
            self._record(engine, search_log)

    def _record(self, engine: SearchEngine, search_log: SearchLog) -> None:
        """Writes what stage 2 and the report read, ranks.json last."""
        folder = self.folder
        warn_about(search_log.trajectory, engine.rule, self.config)
        search_log.trajectory.write(folder.trajectory)
        search_log.tracking.end(search_log.trajectory)
        names = {id(p): name for name, p in engine.lora.module.named_parameters()}
        save_file({names[id(p)]: p.detach().cpu().contiguous() for p in engine.lora.trained}, folder.search_weights)
        write_text(folder.search_config, to_yaml(self.config))  # the run's own changes with a later stage's settings
        write_json(
            folder.search_summary,
            {
                "steps": engine.global_step,
                "seconds": search_log.seconds,
                "parameters_per_rank": dict(engine.rule.sizes),
                "stopped": "ranks settled" if engine.global_step < self.config.search.steps else "steps used up",
                "passes": vars(engine.lora.passes),
                "peak_memory_mib": peak_memory(self.compute),
            },
        )
        ranks.save(ranks.record_of(engine.alpha(), engine.contribution(), engine.rule), folder.ranks)
        checkpoint.clear(folder.search_checkpoint)

    def retrain(self) -> None:
        """Stage 2 of every method: writes adapter/ or merged/ (more when asked), predictions.txt where the task keeps
        them, and metrics.json."""
        config, folder, method = self.config, self.folder, METHODS[self.config.method]
        data = self.data
        if config.retrain.learning_rates:
            config = with_rate(config, choose_learning_rate(self))
        seed_everything(config.seed)
        base = self.base()
        setting = Setting(config, folder, self.task, self.tokenizer, len(data.train), self.processes.first)
        prepared = method.prepare(base, setting)
        trainable = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad) - prepared.zeros
        log.info("retrain (%s): %d rows, trainable parameters %s", config.method, len(data.train), f"{trainable:,}")
        fitted = fit(
            prepared.model, data, self.task, config, self.compute, folder.retrain, self.stop, prepared.callbacks,
            self.processes,
        )  # fmt: skip
        if not self.processes.first:
            return
        if isinstance(self.task, Generation):
            fitted = dataclasses.replace(fitted, metrics=self._generate(prepared.model) | fitted.metrics)
        record = method.save(prepared, setting)
        if fitted.predictions is not None:
            write_text(folder.predictions, fitted.predictions)
        write_json(folder.metrics, result_of(self, fitted, record, trainable, config.retrain.learning_rate))
        remove(folder.retrain)
        remove(folder.trials)
        self.wandb.log({f"eval/{name}": value for name, value in fitted.metrics.items()})

    def _generate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(self.task, Generation)
        (rows,) = self.data.evaluation.values()
        return generate_and_score(
            model, self.task, rows, self.tokenizer, self.config, self.compute, self.folder, self.stop
        )

    def report(self) -> None:
        """Draws figures/ and report.html from the folder's files."""
        for name, path in write_report(self.config, self.folder).items():
            self.wandb.image(f"figures/{name}", path)

    def keep(self) -> None:
        """The run's results as wandb artifacts."""
        self.wandb.keep(f"{self.config.name}-ranks", "ranks", self.folder.ranks)
        self.wandb.keep(f"{self.config.name}-adapter", "model", self.folder.adapter)


def run_stages(request: Request, stop: StopRequest, *, draw: bool = True, processes: Processes = ALONE) -> RunFolder:
    """Runs what the request asks for; unfinished stages go on where they were. Returns the folder with the results.

    `draw` off leaves out the report: the cells of a study are looked at together.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    config = request.config
    root = Path(config.runs_folder) / str(config.name)
    with locked(root) if processes.first else nullcontext(), explained(config, root):
        folder = processes.of_first(lambda: _open(request))
        with nothing_left_when_refused(folder) if processes.first else nullcontext():
            _run_stages(request, folder, stop, draw, processes)
        processes.wait()
    return folder


def _open(request: Request) -> RunFolder:
    folder = RunFolder(Path(request.config.runs_folder) / str(request.config.name))
    refuse_study(folder.root)
    _refuse_before_clearing(request, folder)
    folder = open_folder(request.config, request.stage, request.overwrite)
    refuse_other_config(request.config, folder, request.stage)
    if request.stage != "report":
        refuse_other_ranks(request.config.method, folder)
    return folder


def _refuse_before_clearing(request: Request, folder: RunFolder) -> None:
    """Raises UserError for what would be found to be wrong when --overwrite has taken the results away."""
    if request.stage != "report":
        wandb_mode(request.config)
    if request.overwrite and request.stage == "retrain":  # the search stays
        refuse_other_weights(request.config, folder)
        refuse_other_ranks(request.config.method, folder)


def _run_stages(request: Request, folder: RunFolder, stop: StopRequest, draw: bool, processes: Processes) -> None:
    config, stage = request.config, request.stage
    if stage != "report" and processes.first:
        write_text(folder.config, to_yaml(config))
    with _tracker(config if stage != "report" and processes.first else _untracked(config), folder) as wandb:
        run = Run(config, folder, wandb, stop, processes)
        forget_peak(run.compute)
        # A stage whose last file is there is done, whatever came after it.
        no_ranks, no_metrics = processes.of_first(lambda: (not folder.ranks.exists(), not folder.metrics.exists()))
        if stage in ("all", "search") and config.method in SEARCHING and no_ranks:
            run.search() if config.method == "autolora" else choose_ranks(run)
            run.compute.let_go()
        processes.wait()
        if stage in ("all", "retrain") and no_metrics:
            run.retrain()
        if processes.first:
            folder.clear_leftovers()
            if draw:
                run.report()
            run.keep()
        wandb.finish(read_json(folder.metrics))


def _tracker(config: RunConfig, folder: RunFolder) -> Wandb:
    """A run is filed under its method and approximation; studies are read by these."""
    searches = config.method in SEARCHING
    job = f"{config.method}/{config.hypergradient.type}" if searches else config.method
    tags = [config.task.name or config.task.type, config.method, f"seed {config.seed}"]
    tags += [config.hypergradient.type] if searches else []
    return Wandb(config, folder.root, dataclasses.asdict(config), job=job, tags=tags)


def _untracked(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, wandb="disabled"))
