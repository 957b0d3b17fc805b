"""The retraining: train once on D_tr and D_val together, evaluate, and write the adapter and metrics.json."""

import dataclasses
import json
import logging
from typing import Any

import torch
from transformers import set_seed

from autolora.engine import ranks
from autolora.engine.disk.files import remove, write_json, write_text
from autolora.engine.disk.tables import write_csv, write_parquet
from autolora.engine.export.card import save_card
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.beginning import begin
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.fit import Fitted, fit
from autolora.engine.retrain.generate import write_texts
from autolora.engine.retrain.length import length_of
from autolora.engine.retrain.loss_curve import SendLoss
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.base import Prepared
from autolora.engine.retrain.result import result_of
from autolora.engine.retrain.same_ranks import refuse_changed_ranks, what_counts
from autolora.engine.retrain.settings import RETRAINING
from autolora.engine.retrain.trials import choose_learning_rate, with_rate
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.same_machine import machine_of, warn_of_another_machine
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.tasks.causal import Causal

log = logging.getLogger("autolora")


def retrain(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Trains, evaluates and writes the results of a run.

    Writes metrics.json, adapter/ or merged/ (neither if nothing is trained), the other exports that the run asks for,
    and predictions and samples if the task keeps them. Resumes from the newest checkpoint in retrain/, if any. Raises
    Interrupted when a signal asked to stop, UserError for what the user must change.
    """
    _refuse_changes(run)
    folder, data, method = run.folder, run.data, METHODS[type(run.config)]
    rate = _rate(run)
    at_rate = run.under(with_rate(run.config, rate))
    set_seed(run.config.seed)
    prepared = method.prepare(run.base(), at_rate, len(data.train))
    trainable = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad) - prepared.zeros
    _say_what_is_trained(run, trainable)
    begun = {
        "settings": RETRAINING.of(run.config), "data": run.fingerprint, "ranks": what_counts(prepared.record),
        "components": components_digest(run.config), "machine": machine_of(run.compute),
    }  # fmt: skip
    begin(at_rate, prepared, data)
    prepared = dataclasses.replace(prepared, callbacks=[*prepared.callbacks, SendLoss(tracker)])
    fitted = fit(at_rate, prepared, data, folder.retrain, begun)
    if not run.processes.first:
        return
    written = write_texts(prepared.model, run) if isinstance(run.task, Causal) else {}
    fitted = dataclasses.replace(fitted, metrics=run.task.ordered(written | fitted.metrics))
    scale = _restore_label_scale(run, prepared)
    record = method.save(prepared, at_rate)
    _write_rows_and_curve(fitted, folder)
    fitted = dataclasses.replace(fitted, found_in=prepared.seconds)
    result = result_of(run, fitted, record, trainable, rate) | {"label_scale": scale}
    if record is not None:
        save_card(run, result, record)
    write_json(folder.metrics, result)
    remove(folder.retrain)
    remove(folder.trials)
    tracker.log({f"eval/{name}": value for name, value in fitted.metrics.items()})


def _write_rows_and_curve(fitted: Fitted, folder: RunFolder) -> None:
    """Writes the predictions and the losses of the evaluated rows, and the curve of the training, as far as there are
    any."""
    if fitted.predictions is not None:
        write_text(folder.predictions, fitted.predictions)
    if fitted.predicted_rows is not None:
        write_csv(folder.predicted_rows, fitted.predicted_rows)
    if fitted.curve:
        write_text(folder.retrain_metrics, "".join(json.dumps(point) + "\n" for point in fitted.curve))
    if fitted.row_losses is not None:
        write_parquet(folder.row_losses, fitted.row_losses)


def _rate(run: Context) -> float:
    """The learning rate of the training; chooses it if several rates are given."""
    rates = run.config.retrain.rates
    return choose_learning_rate(run) if len(rates) > 1 and not run.config.evaluates_base else rates[0]


def _restore_label_scale(run: Context, prepared: Prepared) -> dict[str, Any] | None:
    """After the evaluation, makes the model predict numbers in the units of the user's file, where its head can.

    Returns what metrics.json says about this; None if the labels are not on a scale of their own."""
    scale = run.task.label_scale
    if scale is None:
        return None
    # The head is loaded in the precision of the other weights: only here it is fp32 in any case.
    half = scale.needs_fp32 and run.weights_dtype != torch.float32
    in_head = not half and not scale.beyond_fp32 and scale.into_head(prepared.model)
    if not in_head:
        why = (
            "the numbers to predict lie too close together for fp32" if scale.beyond_fp32
            else "the numbers to predict are too far from 0 for weights in half precision" if half
            else "the model's output layer has no bias"
        )  # fmt: skip
        log.warning(
            "%s, so that the adapter predicts (number - %.9g) / %.6g instead of the number",
            why, scale.mean, scale.deviation,
        )  # fmt: skip
    return dataclasses.asdict(scale) | {"in_head": in_head}


def _say_what_is_trained(run: Context, trainable: int) -> None:
    rows, method = len(run.data.train), run.config.method
    if run.config.evaluates_base:
        log.info(
            "retrain (%s): the model has no task head, so that nothing is trained and no model is written; the base "
            "model is evaluated as it is", method,
        )  # fmt: skip
        return
    said = f"{rows} rows, {length_of(run.config.retrain, rows).words()}, trainable parameters {trainable:,}"
    log.info("retrain (%s): %s", method, said, extra={"once": ("retrain", method, said)})


def _refuse_changes(run: Context) -> None:
    """Refuses, before a model is loaded, to resume half-done work that began on other data or at other ranks. Warns of
    work that began on another kind of device or in another precision."""
    folder, first = run.folder, run.processes.of_first
    if run.config.searches:  # `prepare` of the other methods checks their ranks
        first(lambda: refuse_changed_ranks(ranks.load(folder.ranks), folder.ranks, folder))
    begun = first(lambda: checkpoint.peek(folder.retrain))
    warn_of_another_machine("retrain", begun.get("machine", {}), run.compute)
    refuse_changed_data(run, begun.get("data", {}))
