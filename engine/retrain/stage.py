"""Stage 2 of every method: one training on D_tr + D_val, its evaluation, the adapter and metrics.json."""

import dataclasses
import logging

from transformers import set_seed

from engine.disk.files import remove, write_json, write_text
from engine.retrain.fit import fit
from engine.retrain.generate import generate_and_score
from engine.retrain.methods import METHODS
from engine.retrain.result import result_of
from engine.retrain.settings import RETRAINING
from engine.retrain.trials import choose_learning_rate, with_rate
from engine.run.context import Context
from engine.tracking import NOWHERE, Tracker
from problems.tasks.generation import Generation

log = logging.getLogger("autolora")


def retrain(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Writes adapter/ or merged/ (more when asked), predictions.txt where the task keeps them, and metrics.json.

    Resumes from the newest checkpoint in retrain/ when there is one. Raises Interrupted when a signal asked to stop,
    UserError for what the user must change.
    """
    folder, data, method = run.folder, run.data, METHODS[run.config.method]
    rate = choose_learning_rate(run) if run.config.retrain.learning_rates else run.config.retrain.learning_rate
    at_rate = run.under(with_rate(run.config, rate))
    set_seed(run.config.seed)
    prepared = method.prepare(run.base(), at_rate, len(data.train))
    trainable = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad) - prepared.zeros
    log.info("retrain (%s): %d rows, trainable parameters %s", run.config.method, len(data.train), f"{trainable:,}")
    run.begin()
    fitted = fit(at_rate, prepared, data, folder.retrain, RETRAINING.of(run.config))
    if not run.processes.first:
        return
    if isinstance(run.task, Generation):
        fitted = dataclasses.replace(fitted, metrics=generate_and_score(prepared.model, run) | fitted.metrics)
    record = method.save(prepared, at_rate)
    if fitted.predictions is not None:
        write_text(folder.predictions, fitted.predictions)
    write_json(folder.metrics, result_of(run, fitted, record, trainable, rate))
    remove(folder.retrain)
    remove(folder.trials)
    tracker.log({f"eval/{name}": value for name, value in fitted.metrics.items()})
