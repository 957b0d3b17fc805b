"""The retraining: train once on D_tr and D_val together, evaluate, and write the adapter and metrics.json."""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from autolora.configs.places import is_hub_name
from autolora.configs.schema import RunConfig
from autolora.configs.tasks import OwnRows
from autolora.engine import ranks
from autolora.engine.disk.files import remove, write_json, write_text
from autolora.engine.disk.tables import write_csv, write_parquet
from autolora.engine.export.adapter import save_all
from autolora.engine.export.card import save_card
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.evaluate import Evaluated
from autolora.engine.retrain.fit import Fitted, begin, fit
from autolora.engine.retrain.generate import write_texts
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.base import length_of
from autolora.engine.retrain.same_ranks import refuse_changed_ranks, what_counts
from autolora.engine.retrain.settings import FINISHED, RETRAINING
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.retrain.trials import choose_learning_rate, read_trials, with_rate
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.program import commit
from autolora.engine.run.resources import computed_on, peak_memory, versions
from autolora.engine.run.same_data import refuse_changed_data
from autolora.engine.run.same_machine import machine_of, warn_of_another_machine
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.tasks.chat import Conversations

log = logging.getLogger("autolora")

_PARTS = {0.1: "tenth", 0.2: "fifth", 0.25: "quarter", 0.5: "half"}


def retrain(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Trains, evaluates and writes the results of a run.

    Writes metrics.json, adapter/ or merged/ (neither if nothing is trained), the other exports that the run asks for,
    and predictions and samples if the task keeps them. Resumes from the newest checkpoint in retrain/, if any. Raises
    Interrupted when a signal asked to stop, UserError for what the user must change.
    """
    _refuse_changes(run)
    folder, rates = run.folder, run.config.retrain.rates
    rate = choose_learning_rate(run) if len(rates) > 1 and not run.config.evaluates_base else rates[0]
    at_rate = run.under(with_rate(run.config, rate))
    set_seed(run.config.seed)
    prepared = METHODS[type(run.config)](run.base(), at_rate, len(run.data.train))
    trainable = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad)
    _say_what_is_trained(run, trainable)
    begun = {
        "settings": RETRAINING.of(run.config), "data": run.fingerprint, "ranks": what_counts(prepared.record),
        "components": components_digest(run.config), "machine": machine_of(run.compute),
    }  # fmt: skip
    begin(at_rate, prepared, run.data)
    fitted = fit(at_rate, prepared, run.data, folder.retrain, begun, tracker)
    if not run.processes.first:
        return
    written = write_texts(fitted.model, run) if isinstance(run.task, Conversations) else {}
    metrics = run.task.ordered(written | fitted.evaluated.metrics)
    scale = _restore_label_scale(run, fitted.model)
    if prepared.save is not None:
        prepared.save()
    else:
        assert isinstance(fitted.model, PeftModel)
        assert fitted.record is not None
        if prepared.record is None:  # the training itself has found the ranks
            ranks.save(fitted.record, folder.ranks)
        save_all(fitted.model, run.tokenizer, folder, run.adapted, run.ends)
    _write_rows_and_curve(fitted, folder)
    costs = {"trainable_parameters": trainable, "label_scale": scale} | _costs(run, fitted, rate, prepared.seconds)
    result = _judged(run, fitted.evaluated, metrics) | costs | _origin(run, fitted)
    if fitted.record is not None:
        save_card(run, result, fitted.record)
    write_json(folder.metrics, result)
    remove(folder.retrain)
    remove(folder.trials)
    tracker.log({f"eval/{name}": value for name, value in metrics.items()})


def _write_rows_and_curve(fitted: Fitted, folder: RunFolder) -> None:
    """Writes the predictions and the losses of the evaluated rows, and the curve of the training, as far as there are
    any."""
    evaluated = fitted.evaluated
    if evaluated.predictions is not None:
        write_text(folder.predictions, evaluated.predictions)
    if evaluated.predicted_rows is not None:
        write_csv(folder.predicted_rows, evaluated.predicted_rows)
    if fitted.curve:
        write_text(folder.retrain_metrics, "".join(json.dumps(point) + "\n" for point in fitted.curve))
    if evaluated.row_losses is not None:
        write_parquet(folder.row_losses, evaluated.row_losses)


def _restore_label_scale(run: Context, model: Any) -> dict[str, Any] | None:
    """After the evaluation, makes the model predict numbers in the units of the user's file, where its head can.

    Returns what metrics.json says about this; None if the labels are not on a scale of their own."""
    scale = run.task.label_scale
    if scale is None:
        return None
    # The head is loaded in the precision of the other weights: only here it is fp32 in any case.
    half = scale.needs_fp32 and run.weights_dtype != torch.float32
    in_head = not half and not scale.beyond_fp32 and scale.into_head(model)
    if not in_head:
        log.warning("the head cannot hold the labels' units, so that the adapter predicts (number - %.9g) / %.6g "
                    "instead of the number", scale.mean, scale.deviation)  # fmt: skip
    return dataclasses.asdict(scale) | {"in_head": in_head}


def _say_what_is_trained(run: Context, trainable: int) -> None:
    rows, method = len(run.data.train), run.config.method
    said = f"{rows} rows, {length_of(run.config.retrain, rows).words()}, trainable parameters {trainable:,}"
    if run.config.evaluates_base:
        said = "the model has no task head, so that nothing is trained; the base model is evaluated as it is"
    log.info("retrain (%s): %s", method, said, extra={"once": ("retrain", method, said)})


def _refuse_changes(run: Context) -> None:
    """Refuses, before a model is loaded, to resume half-done work that began on other data or at other ranks. Warns of
    work that began on another kind of device or in another precision."""
    folder, first = run.folder, run.processes.of_first
    if run.config.searches:  # the other methods check their ranks when they prepare the model
        first(lambda: refuse_changed_ranks(ranks.load(folder.ranks), folder.ranks, folder))
    begun = first(lambda: checkpoint.peek(folder.retrain))
    warn_of_another_machine("retrain", begun.get("machine", {}), run.compute)
    refuse_changed_data(run, begun.get("data", {}))


def _judged(run: Context, evaluated: Evaluated, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What metrics.json says of the evaluation."""
    task, own = run.task, {name: value for name, value in metrics.items() if name != "loss"}
    # Rows of one input depend on each other.
    inputs = sum(len(set(rows["group"][:])) for rows in run.data.evaluation.values())
    return {
        "method": run.config.method,
        "task": task.name,
        "split": task.evaluation_split,
        "evaluated_on": evaluated_on(run.config, task.name, task.evaluation_split, task.held_out),
        "evaluated_rows": evaluated.rows,
        "metrics": own,
        "standard_error": standard_error(own, inputs),
        "loss": metrics.get("loss"),
        "calibrated_loss": evaluated.calibrated_loss,
    }


def _costs(run: Context, fitted: Fitted, rate: float, found_in: float | None) -> dict[str, Any]:
    """What metrics.json says of size, time and memory. `seconds.total`: of one run at the chosen rate, without the
    sweep of learning rates. `found_in`: the seconds in which the method found its ranks."""
    config, record = run.config, fitted.record
    searched: Mapping[str, Any] = read_searched(run.folder.search_summary) if config.searches else {}
    if config.searches == "trials":
        trials = read_trials(run.folder.grid)
        searched = {"seconds": sum(t.seconds for t in trials), "steps": sum(t.steps for t in trials)}
    answer = read_answer(run.folder.answer).get("seconds") if config.method == "autolora" else None
    seconds = {"search": searched.get("seconds", found_in), "answer": answer, "retrain": fitted.seconds}
    swept = len(config.retrain.rates) > 1 and not config.evaluates_base
    return {
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "learning_rate": None if config.evaluates_base else rate,
        "learning_rates_tried": config.retrain.rates if swept else [],
        "seconds_sweep": sum(trial.seconds for trial in read_trials(run.folder.sweep)),
        "seconds_evaluation": fitted.evaluated.seconds,
        "seed": config.seed,
        "seconds": seconds | {"total": sum(s for s in seconds.values() if s is not None)},
        "steps": {"search": searched.get("steps"), "retrain": fitted.steps},
        "peak_memory_mib": max(peak_memory(run.compute), searched.get("peak_memory_mib", 0.0)),
    }


def _origin(run: Context, fitted: Fitted) -> dict[str, Any]:
    """What metrics.json says of the machine, the versions and the inputs on which the numbers depend."""
    config = run.config
    weights = "bf16" if run.weights_dtype == torch.bfloat16 else "fp32"
    weights = "4 bits" if config.model.dtype == "nf4" else weights
    read = None if named_ranks(config) is None else what_counts(ranks.load(ranks_from(config)))
    return {
        "machine": computed_on(run.compute, run.processes.size) | {"weights": weights},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "base_weights": run.weights.loaded,
        "data": run.fingerprint,
        "source_ranks": read,
        "trained_ranks": fitted.record.kept if fitted.record else None,
        "source_components": components_digest(config),
        "settings": FINISHED.of(config),
    }


def evaluated_on(config: RunConfig, name: str, split: str, held_out: bool) -> str:
    """The evaluation rows in words: their file, `train.csv, held-out tenth`, or the task's `name` and `split`.

    `held_out`: whether the task took them out of the training rows.
    """
    task = config.task
    if not isinstance(task, OwnRows):
        return f"{name}, {split}"
    own = task.file_of(split)
    if own is not None:
        return Path(own).name
    path = str(task.path)
    if not held_out:  # a data set with splits of its own
        return f"{path}, {split}"
    part = _PARTS.get(task.holdout_share, f"{100 * task.holdout_share:g} %")
    return f"{path if is_hub_name(path) else Path(path).name}, held-out {part}"


def standard_error(metrics: Mapping[str, float], inputs: int) -> float | None:
    """The standard error of the main metric if it is the accuracy on rows of `inputs` inputs; None for others.

    This is the estimate of Agresti and Coull (1998): it adds two right and two wrong rows, so that the accuracy of a
    few rows that are all right does not look certain.
    """
    name, value = next(iter(metrics.items()))
    if name != "accuracy" or not inputs:
        return None
    share = (value * inputs + 2) / (inputs + 4)
    return math.sqrt(share * (1 - share) / (inputs + 4))
