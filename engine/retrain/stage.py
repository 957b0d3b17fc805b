"""The retraining: train once on D_tr and D_val together, evaluate, and write the adapter and metrics.json."""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.places import is_hub_name
from autolora.configs.schema import RunConfig, WithLora
from autolora.configs.section import ALL_LINEAR
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_json, write_text
from autolora.engine.disk.tables import write_csv, write_parquet
from autolora.engine.export.adapter import save_all
from autolora.engine.export.card import save_card
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.retrain.fit import Fitted, begin, fit
from autolora.engine.retrain.generate import write_texts
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods import adapter as bottleneck
from autolora.engine.retrain.methods.base import length_of
from autolora.engine.retrain.trials import read_trials, with_rate
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.manifest import Stage
from autolora.engine.run.opening import Places
from autolora.engine.run.program import commit
from autolora.engine.run.records import read_searched
from autolora.engine.run.resources import computed_on, peak_memory, versions
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.texts import LabelScale

log = logging.getLogger("autolora")

_PARTS = {0.1: "tenth", 0.2: "fifth", 0.25: "quarter", 0.5: "half"}


def retrain(run: Context, rate: float, tracker: Tracker = NOWHERE) -> None:
    """Trains at a learning rate, evaluates and writes the results of a run.

    Writes metrics.json, adapter/ or merged/ (neither if nothing is trained), the other exports that the run asks for,
    and predictions and samples if the task keeps them. Resumes from the newest checkpoint in retrain/, if any. Raises
    Interrupted when a signal asked to stop, UserError for what the user must change.
    """
    folder, at_rate = run.folder, run.under(with_rate(run.config, rate))
    set_seed(run.config.seed)
    prepared = METHODS[type(run.config)](run.base(), at_rate, len(run.data.train))
    trainable = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad)
    _say_what_is_trained(run, trainable)
    begin(at_rate, prepared, run.data, "retrain", "evaluate")
    fitted = fit(at_rate, prepared, run.data, folder.retrain, tracker)
    judged = _judged(fitted.model, run, tracker)
    if not run.processes.first:
        return
    scale = _restore_label_scale(run, fitted.model)
    if fitted.save is not None:
        fitted.save()
    else:
        assert isinstance(fitted.model, PeftModel)
        assert fitted.record is not None
        if prepared.record is None:  # the training itself has found the ranks
            ranks.save(fitted.record, folder.ranks)
        save_all(fitted.model, run.tokenizer, folder, run.adapted, run.ends)
    if fitted.curve:
        write_text(folder.retrain_metrics, "".join(json.dumps(point) + "\n" for point in fitted.curve))
    costs = {"trainable_parameters": trainable, "label_scale": scale} | _costs(run, fitted, rate, prepared.seconds)
    write_json(folder.trained, costs)
    _write_result(run, judged, costs, fitted.record)


def evaluate_trained(run: Context) -> None:
    """Evaluates the finished training of a run anew, with its adapter as it was written, and writes metrics.json. An
    earlier evaluation is kept in evaluate.old-N."""
    folder, costs = run.folder, read_json(run.folder.trained)
    model = trained_model(run, costs["label_scale"]).to(run.compute.device)
    judged = _judged(model, run, NOWHERE, keep=True)
    if run.processes.first:
        record = ranks.load(folder.ranks) if folder.ranks.exists() and run.config.has_lora else None
        _write_result(run, judged, costs, record)


def trained_model(run: Context, scale: Mapping[str, Any] | None) -> Any:
    """The model that a finished training of this run has written; on the CPU. `scale`: that of its labels, if its head
    predicts them in the units of the file; the model then predicts on the scale of the training again."""
    folder = run.folder
    if isinstance(run.config, WithLora):  # the adapter is stock PEFT's: no projection is split for it
        whole = run.config.lora.model_copy(update={"target_modules": [ALL_LINEAR]})
        run = run.under(run.config.model_copy(update={"lora": whole}))
    base = run.base().model
    if (folder.adapter / bottleneck.SETTINGS).exists():
        model: Any = bottleneck.load(base, folder.adapter)
    elif folder.adapter.exists():
        model = PeftModel.from_pretrained(base, folder.adapter, is_trainable=True)
    elif folder.merged.exists():
        base.load_state_dict(type(base).from_pretrained(folder.merged, dtype=torch.float32).state_dict())
        model = base.requires_grad_(True)
    elif run.config.evaluates_base:
        model = base
    else:
        raise UserError(f"--stage evaluate: {folder.root} has no trained model any more; --stage retrain trains one")
    if scale is not None and scale["in_head"]:
        LabelScale(-scale["mean"] / scale["deviation"], 1 / scale["deviation"]).into_head(model)
    return model.eval()


def _judged(model: Any, run: Context, tracker: Tracker, *, keep: bool = False) -> dict[str, Any]:
    """Evaluates the model and writes its predictions; returns what metrics.json says of them. `keep`: an earlier
    evaluation is put aside, once the new one is made."""
    folder, task = run.folder, run.task
    batch = run.config.evaluation_batch
    evaluated = evaluate(model, task, run.data, run.compute, batch, run.processes, run.stop.check)
    if not run.processes.first:
        return {}
    if keep:
        _put_evaluation_aside(folder)
        run.begin("evaluate")
    written = write_texts(model, run) if isinstance(task, Conversations) else {}
    metrics = task.ordered(written | evaluated.metrics)
    if evaluated.predicted_rows is not None:
        write_csv(folder.predicted_rows, evaluated.predicted_rows)
    if evaluated.row_losses is not None:
        write_parquet(folder.row_losses, evaluated.row_losses)
    tracker.log({f"eval/{name}": value for name, value in metrics.items()})
    own = {name: value for name, value in metrics.items() if name != "loss"}
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
        "seconds_evaluation": evaluated.seconds,
    }


def _put_evaluation_aside(folder: RunFolder) -> None:
    """Moves the files of an earlier evaluation to evaluate.old-N."""
    old = Places(folder.root / "evaluate").free
    for path in reversed(list(Stage("evaluate", folder, {}, None).outputs)):  # metrics.json first
        old.mkdir(exist_ok=True)
        os.rename(path, old / ("manifest" if path.is_dir() else path.name))


def _write_result(
    run: Context, judged: Mapping[str, Any], costs: Mapping[str, Any], record: RankRecord | None
) -> None:
    """Writes the model card and, last, metrics.json."""
    result = {**judged, **costs, **_origin(run)}
    if record is not None:
        save_card(run, result, record)
    write_json(run.folder.metrics, result)


def _restore_label_scale(run: Context, model: Any) -> dict[str, Any] | None:
    """After the evaluation, makes the model predict numbers in the units of the user's file, where its head can.

    Returns what metrics.json says about this; None if the labels are not on a scale of their own."""
    scale = run.task.label_scale
    if scale is None:
        return None
    # The head is loaded in the precision of the other weights: only here it is fp32 in any case.
    half = scale.needs_fp32 and run.weights_dtype != torch.float32
    in_head = not half and scale.into_head(model)
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


def _costs(run: Context, fitted: Fitted, rate: float, found_in: float | None) -> dict[str, Any]:
    """What metrics.json says of size, time and memory. `seconds.total`: of one run at the chosen rate, without the
    sweep of learning rates. `found_in`: the seconds in which the method found its ranks."""
    config, record = run.config, fitted.record
    searched: Mapping[str, Any] = read_searched(run.folder.search_summary) if config.searches else {}
    if config.searches == "trials":
        trials = read_trials(run.folder.grid_trials)
        searched = {"seconds": sum(t.seconds for t in trials), "steps": sum(t.steps for t in trials)}
    answer = read_json(run.folder.measured).get("seconds") if config.method == "autolora" else None
    seconds = {"search": searched.get("seconds", found_in), "answer": answer, "retrain": fitted.seconds}
    return {
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "learning_rate": None if config.evaluates_base else rate,
        "learning_rates_tried": config.retrain.rates if config.sweeps else [],
        "seconds_sweep": sum(trial.seconds for trial in read_trials(run.folder.sweep_trials)),
        "seed": config.seed,
        "seconds": seconds | {"total": sum(s for s in seconds.values() if s is not None)},
        "steps": {"search": searched.get("steps"), "retrain": fitted.steps},
        "peak_memory_mib": max(peak_memory(run.compute), searched.get("peak_memory_mib", 0.0)),
    }


def _origin(run: Context) -> dict[str, Any]:
    """What metrics.json says of the machine, the versions and the inputs on which the numbers depend."""
    config = run.config
    weights = "bf16" if run.weights_dtype == torch.bfloat16 else "fp32"
    weights = "4 bits" if config.model.dtype == "nf4" else weights
    return {
        "machine": computed_on(run.compute, run.processes.size) | {"weights": weights},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "base_weights": run.known.get("base model"),
        "data": run.fingerprint,
    }


def evaluated_on(config: RunConfig, name: str, split: str, held_out: bool) -> str:
    """The evaluation rows in words: their file, `train.csv, held-out tenth`, or the task's `name` and `split`.

    `held_out`: whether the task took them out of the training rows.
    """
    task = config.task
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
