"""Choices on the validation part: full trainings on D_tr, measured on D_val. Each is done once, also after a kill."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import set_seed

from configs.errors import UserError
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import remove, write_json
from engine.export.lora_config import save_lora_config
from engine.ranks import controls
from engine.retrain.callbacks import NotFinite
from engine.retrain.fit import fit
from engine.retrain.methods import METHODS, Prepared
from engine.retrain.methods.lora import lora_at
from engine.retrain.same_ranks import what_counts
from engine.retrain.settings import CHOOSING
from engine.run.contents import read_trials_file
from engine.run.context import Context
from engine.run.same_data import refuse_changed_data
from problems.data import Data
from problems.halves import split_rows
from problems.models.attach import ADAPTER
from problems.models.layers import lora_layers_of
from problems.tasks.doubts import warn_of_untrained_classes

log = logging.getLogger("autolora")


@dataclass(frozen=True)
class Trial:
    """One training on D_tr: what was tried, the task's metrics on D_val (none: it diverged), optimiser steps,
    seconds."""

    tried: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: int
    seconds: float


Prepare = Callable[[Mapping[str, Any]], tuple[Context, Prepared]]
"""Makes of what is tried the run with its settings, and the model to be trained."""


@dataclass
class Trials:
    """The trainings of one choice, written to `path` one by one; `blame` and `stage` are what a user changes when all
    diverge."""

    run: Context
    path: Path
    blame: str
    stage: str

    def __post_init__(self) -> None:
        rows, found = self.run.data, read_trials_file(self.path)
        # A choice that is made has seen D_tr and D_val alone.
        refuse_changed_data(self.run, found.get("data", {}), evaluated="chosen" not in found)
        self.ranks: dict[str, Any] | None = found.get("ranks")
        d_tr, d_val = split_rows(rows.train, self.run.config)
        self.data = Data(rows.train.select(d_tr), {"D_val": rows.train.select(d_val)}, rows.collate)
        classes = self.run.task.head().get("id2label", {})
        warn_of_untrained_classes(self.data.train, self.data.evaluation["D_val"], "D_val", classes)

    def best(self, candidates: Sequence[Mapping[str, Any]], prepare: Prepare) -> Trial:
        """The candidate that does best on D_val, of equals the one with the lower loss; a trial that is in the file is
        not repeated.

        Raises UserError when every one diverged.
        """
        name = self.path.stem
        done = read_trials(self.path)
        for number, tried in enumerate(candidates[len(done) :], start=len(done)):
            log.info("%s: trial %d of %d, %s", name, number + 1, len(candidates), _words(tried))
            done.append(self._train(tried, prepare, done))
            self._write(done)
            remove(self._folder(number))
        finite = [trial for trial in done if trial.metrics]
        if not finite:
            # Unfinished trials resume only under unchanged settings, and a study has no stages to overwrite.
            raise UserError(
                f"{self.blame}: all {len(done)} trials of {self.path} diverged; lower it and add --stage {self.stage} "
                f"--overwrite (a cell of a study: remove {self.path.parent} and give the study's command again)"
            )
        # Short trainings of a hard task often end at one constant answer: equal metrics, unequal losses.
        chosen = max(finite, key=lambda trial: (self.run.task.score(trial.metrics), -trial.metrics.get("loss", 0.0)))
        log.info("%s: chose %s", name, _words(chosen.tried))
        self._write(done, chosen)
        remove(self.run.folder.trials)
        self.run.compute.let_go()
        return chosen

    def _train(self, tried: Mapping[str, Any], prepare: Prepare, done: Sequence[Trial]) -> Trial:
        """Trains what is tried, after the trials in `done`."""
        self.run.compute.let_go()
        set_seed(self.run.config.seed)
        run, prepared = prepare(tried)
        # Only now: what `prepare` refuses must leave no half-done choice behind, under whose settings alone to resume.
        self.run.begin()
        self._write(done)
        try:
            fitted = fit(run, prepared, self.data, self._folder(len(done)))
        except NotFinite as error:
            log.warning("%s: %s diverged (%s)", self.path.stem, _words(tried), error)
            return Trial(tried, {}, 0, 0.0)
        return Trial(tried, fitted.metrics, fitted.steps, fitted.seconds)

    def _folder(self, number: int) -> Path:
        """A folder for each trial: the next one must not resume from what a killed trial left."""
        return self.run.folder.trials / f"{self.path.stem}-{number}"

    def _write(self, done: Sequence[Trial], chosen: Trial | None = None) -> None:
        found = {} if chosen is None else {"chosen": chosen.tried}
        trials = [dataclasses.asdict(trial) for trial in done]
        begun = {"settings": CHOOSING.of(self.run.config), "data": self.run.fingerprint, "ranks": self.ranks}
        write_json(self.path, {**found, "trials": trials, **begun})


def read_trials(path: Path) -> list[Trial]:
    """The trials in a grid.json or sweep.json; none when there is no such file."""
    return [Trial(**trial) for trial in read_trials_file(path).get("trials", [])]


def choose_learning_rate(run: Context) -> float:
    """The rate of `retrain.learning_rates` that did best on D_val with this run's method; writes sweep.json."""
    trials = Trials(run, run.folder.sweep, "--retrain.learning_rates", "retrain")

    def prepare(tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        at_rate = run.under(with_rate(run.config, tried["learning_rate"]))
        prepared = METHODS[run.config.method].prepare(run.base(), at_rate, len(trials.data.train))
        trials.ranks = what_counts(prepared.record)
        return at_rate, prepared

    rates = run.config.retrain.learning_rates
    return float(trials.best([{"learning_rate": rate} for rate in rates], prepare).tried["learning_rate"])


def choose_ranks(run: Context) -> None:
    """Method lora_grid: every combination of `lora.grid` over the target modules; writes grid.json and ranks.json.

    The paper compares with 16 rank configurations without naming them; two target modules and four ranks make 16.
    """
    trials, settings = Trials(run, run.folder.grid, "--retrain.learning_rate", "all"), run.config.lora
    targets = settings.target_modules

    def prepare(tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        base = run.base()
        record = controls.by_target(lora_layers_of(base.model, settings), tried, settings.k)
        return run, lora_at(record, Path("--lora.grid"), base, run)

    combinations = itertools.product(settings.grid, repeat=len(targets))
    chosen = trials.best([dict(zip(targets, combination, strict=True)) for combination in combinations], prepare)
    _, prepared = prepare(chosen.tried)
    assert prepared.record is not None
    assert isinstance(prepared.model, PeftModel)
    save_lora_config(prepared.model.peft_config[ADAPTER], prepared.record, run.folder.lora_config, run.config)
    ranks.save(prepared.record, run.folder.ranks)


def with_rate(config: RunConfig, rate: float) -> RunConfig:
    """`config` with this learning rate of stage 2."""
    return dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, learning_rate=rate))


def _words(tried: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in tried.items())
