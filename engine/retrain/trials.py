"""Choose settings by trials: whole trainings on D_tr, measured on D_val. A choice resumes with its finished trials."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import remove, write_json
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.beginning import begin
from autolora.engine.retrain.callbacks import NotFinite
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.fit import fit
from autolora.engine.retrain.methods import METHODS, Prepared
from autolora.engine.retrain.methods.adalora import LEAST_STEPS
from autolora.engine.retrain.same_ranks import what_counts
from autolora.engine.retrain.settings import CHOOSING
from autolora.engine.run.contents import read_trials_file
from autolora.engine.run.context import Context
from autolora.engine.run.same_data import refuse_changed_data
from autolora.problems.data import Data
from autolora.problems.halves import split_rows
from autolora.problems.tasks import Task

log = logging.getLogger("autolora")

_FEW = 12
"""With more entries than this, the log summarises a candidate."""


@dataclass(frozen=True)
class Trial:
    """One finished training on D_tr: what was tried, the task's metrics on D_val (empty if it diverged), optimiser
    steps, and the seconds of the training and of its evaluation on D_val, those before a stop included."""

    tried: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: int
    seconds: float


Prepare = Callable[[Context, Mapping[str, Any]], tuple[Context, Prepared]]
"""Turns the run of a trial and a candidate into the run with the candidate's settings, and the model to train."""


Plan = Callable[[Sequence[Trial]], Sequence[Mapping[str, Any]]]
"""Gives, from the finished trials alone, all candidates that are known so far: the tried ones first."""


@dataclass
class Trials:
    """The trials of one choice, each written to `path` when it is finished.

    `blame`, `stage`: the key and the stage that the error names when all trials diverge; `name`: what the
    log calls the choice; `sizes`: layer -> LoRA parameters of one component, which are stored in `path`.
    """

    run: Context
    path: Path
    blame: str
    stage: str
    name: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, found = self.run.data, read_trials_file(self.path)
        if not found and self.run.processes.first:  # what the removed file's trials left may be of other candidates
            for left in self.run.folder.trials.glob(f"{self.path.stem}-*"):
                remove(left)
        # A finished choice has read only D_tr and D_val, so that the evaluation rows may have changed since.
        refuse_changed_data(self.run, found.get("data", {}), evaluated="chosen" not in found)
        self.ranks: dict[str, Any] | None = found.get("ranks")
        d_tr, d_val = split_rows(rows.train, self.run.config)
        self.data = Data(rows.train.select(d_tr), {"D_val": rows.train.select(d_val)}, rows.collate)

    def best(self, plan: Plan, prepare: Prepare, count: str) -> Trial:
        """The trial with the best score on D_val; if scores are equal, the trial with the lower loss. Runs only trials
        that are not in the file. `count`: the number of trials as the log prints it.

        Raises UserError when all trials diverged.
        """
        done = read_trials(self.path)
        while len(done) < len(planned := plan(done)):
            number, tried = len(done), planned[len(done)]
            log.info("%s: trial %d of %s, %s", self.name, number + 1, count, words_of(tried))
            done.append(self._train(tried, prepare, done))
            self._write(done)
            remove(self._folder(number))
        finite = [trial for trial in done if trial.metrics]
        if not finite:
            # A lower rate is a changed setting, under which these trials do not resume: hence --overwrite. In a study
            # that is no way out, as it refuses --stage retrain, and --overwrite replaces all of its cells.
            raise UserError(
                f"{self.blame}: all {len(done)} trials of {self.path} diverged; lower the rate and add "
                f"--stage {self.stage} --overwrite (for a cell of a study, remove {self.path.parent} and repeat the "
                f"study's command)"
            )
        chosen = max(finite, key=partial(goodness, self.run.task))
        log.info("%s: chose %s", self.name, words_of(chosen.tried))
        self._write(done, chosen)
        remove(self.run.folder.trials)
        self.run.compute.let_go()
        return chosen

    def _train(self, tried: Mapping[str, Any], prepare: Prepare, done: Sequence[Trial]) -> Trial:
        """Trains the candidate `tried`; `done` are the earlier trials."""
        self.run.compute.let_go()
        set_seed(self.run.config.seed)
        run, prepared = prepare(self.run.under(self._settings()), tried)
        # Settings are stored only after `prepare`, which may refuse them: a half-done choice resumes only under the
        # settings that are stored.
        begin(run, prepared, self.data)
        self._write(done)
        folder, began = self._folder(len(done)), time.perf_counter()
        before = float(checkpoint.peek(folder).get("seconds", 0.0))
        try:
            fitted = fit(run, prepared, self.data, folder)
        except NotFinite as error:
            log.warning("%s: %s diverged (%s)", self.name, words_of(tried), error)
            return Trial(tried, {}, 0, before + time.perf_counter() - began)
        return Trial(tried, fitted.metrics, fitted.steps, fitted.seconds + fitted.seconds_evaluation)

    def _settings(self) -> RunConfig:
        """The settings of every trial: the run's, but with as many passes over D_tr as the retraining takes over all
        rows, instead of as many steps. With more passes, lower learning rates would look better than they are for the
        retraining. A trial keeps no losses of rows, as it is judged by its metrics."""
        config, steps = self.run.config, self.run.config.retrain.max_steps
        if steps is not None:
            fewest = min(steps, LEAST_STEPS)
            steps = max(fewest, math.ceil(steps * len(self.data.train) / len(self.run.data.train)))
        retrain = config.retrain.model_copy(update={"max_steps": steps, "row_losses": False})
        return config.model_copy(update={"retrain": retrain})

    def _folder(self, number: int) -> Path:
        """The folder of one trial. Each has its own, as a trial must not resume from another trial's checkpoints."""
        return self.run.folder.trials / f"{self.path.stem}-{number}"

    def _write(self, done: Sequence[Trial], chosen: Trial | None = None) -> None:
        found = {} if chosen is None else {"chosen": chosen.tried}
        trials = [dataclasses.asdict(trial) for trial in done]
        begun: dict[str, Any] = {
            "settings": CHOOSING.of(self.run.config),
            "data": self.run.fingerprint,
            "ranks": self.ranks,
        }
        if (components := components_digest(self.run.config)) is not None:
            begun["components"] = components
        sizes = {"parameters_per_rank": dict(self.sizes)} if self.sizes else {}
        write_json(self.path, {**found, "trials": trials, **sizes, **begun})


def read_trials(path: Path) -> list[Trial]:
    """The trials in a grid.json or sweep.json; none when there is no such file."""
    return [Trial(**trial) for trial in read_trials_file(path).get("trials", [])]


def choose_learning_rate(run: Context) -> float:
    """The rate of `retrain.learning_rate` that did best on D_val with this run's method; writes sweep.json."""
    trials = Trials(run, run.folder.sweep, "--retrain.learning_rate", "retrain", "sweep")

    def prepare(run: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        at_rate = run.under(with_rate(run.config, tried["learning_rate"]))
        prepared = METHODS[type(run.config)].prepare(run.base(), at_rate, len(trials.data.train))
        trials.ranks = what_counts(prepared.record)
        return at_rate, prepared

    rates = [{"learning_rate": rate} for rate in run.config.retrain.rates]
    return float(trials.best(lambda done: rates, prepare, f"{len(rates)}").tried["learning_rate"])


def goodness(task: Task, trial: Trial) -> tuple[float, float]:
    """The sort key of a trial, larger for a better one: its score, then its negative loss. A diverged trial is last.

    Short trainings on a hard task often end at one constant answer: the metrics are equal, but the losses differ.
    """
    if not trial.metrics:
        return -math.inf, -math.inf
    return task.score(trial.metrics), -trial.metrics.get("loss", 0.0)


def with_rate(config: RunConfig, rate: float) -> RunConfig:
    """`config` with `rate` as the learning rate of the retraining."""
    return config.model_copy(update={"retrain": config.retrain.model_copy(update={"learning_rate": rate})})


def words_of(tried: Mapping[str, Any]) -> str:
    """A candidate as the log prints it; for many layers, only the range and the mean of their ranks."""
    if len(tried) <= _FEW:
        return ", ".join(f"{name} {value}" for name, value in tried.items())
    values = [float(value) for value in tried.values()]
    return f"ranks {min(values):g} to {max(values):g}, mean {sum(values) / len(values):.2f}"
