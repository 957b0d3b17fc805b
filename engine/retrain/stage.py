"""The retraining: train once on D_tr and D_val together, evaluate, and write the adapter and
metrics.json."""

import dataclasses
import logging
import math
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerState, set_seed

from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.configs.schema import WithLora
from autolora.configs.section import ALL_LINEAR
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_json, write_json_lines, write_text
from autolora.engine.disk.tables import write_csv, write_parquet
from autolora.engine.export.card import save_card
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.record import BY_HAND
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.retrain.fit import begin, fit, points_of, seconds_of, trained_parameters
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods import adapter as bottleneck
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.program import commit
from autolora.engine.run.resources import computed_on, peak_memory, versions
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import places_of
from autolora.engine.store.overwrite import OverwriteFolders
from autolora.engine.terminal.bar import Bar
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.decoding import decode
from autolora.problems.tasks.formats import Conversation
from autolora.problems.tasks.texts import LabelScale

log = logging.getLogger("autolora")


def retrain(run: Context, rate: float, tracker: Tracker = NOWHERE) -> None:
    """Trains at a learning rate and writes adapter/ or merged/ (neither if nothing is trained), the
    other exports that the run asks for, and last what the training cost.

    Resumes from the newest checkpoint in retrain/, if any. Raises Interrupted when a signal asked
    to stop, UserError for what the user must change.
    """
    run = run.under(with_values(run.config, {"retrain.learning_rate": rate}))
    folder = run.folder
    first = run.processes.first
    set_seed(run.config.seed)
    prepared = METHODS[type(run.config)](run.base(), run)
    trainable = trained_parameters(prepared.model)
    log.info(
        "retrain (%s): %d rows, %s trained parameters",
        run.config.method,
        len(run.data.train),
        f"{trainable:,}",
    )
    begin(run, prepared, run.data, "retrain", "evaluate")
    if first and prepared.record is not None and prepared.record.rule != BY_HAND:
        ranks.save(prepared.record, folder.ranks)
    trained, state = fit(run, prepared, run.data, folder.retrain, tracker)
    if not first:
        return
    scale = _restore_label_scale(run, trained.model)
    # the training itself has found the ranks
    if prepared.record is None and trained.record is not None:
        ranks.save(trained.record, folder.ranks)
    trained.save()
    if points := points_of(state):
        write_json_lines(folder.retrain_metrics, points)
    costs = _costs(run, trained.record, state, prepared) | {
        "trainable_parameters": trainable,
        "label_scale": scale,
        "learning_rate": rate if state.global_step else None,
    }
    write_json(folder.trained, costs)


def evaluate_trained(run: Context, tracker: Tracker = NOWHERE) -> None:
    """Evaluates the finished training of a run as it was written, and writes its predictions, the
    model card, and last metrics.json, with the machine, the versions and the inputs on which the
    numbers depend. An earlier evaluation is kept in evaluate.old-N. Raises Interrupted when a
    signal asked to stop."""
    folder = run.folder
    task = run.task
    costs = read_json(run.folder.trained)
    model = _trained_model(run, costs["label_scale"]).to(run.compute.device)
    began = time.perf_counter()
    evaluated = evaluate(model, run, run.data)
    seconds = time.perf_counter() - began
    if not run.processes.first:
        return
    if folder.metrics.exists():
        _put_evaluation_aside(folder)
    run.begin("evaluate")
    written = _write_texts(model, run, task) if isinstance(task, Conversations) else {}
    metrics = task.ordered(written | evaluated.metrics)
    if evaluated.predicted_rows is not None:
        write_csv(folder.predicted_rows, evaluated.predicted_rows)
    if evaluated.row_losses is not None:
        write_parquet(folder.row_losses, evaluated.row_losses)
    tracker.log({f"eval/{name}": value for name, value in metrics.items()})
    weights = "bf16" if run.weights_dtype == torch.bfloat16 else "fp32"
    result = {
        "method": run.config.method,
        "task": task.config.result_name,
        "split": "+".join(run.data.evaluation),
        "evaluated_rows": sum(map(len, run.data.evaluation.values())),
        "metrics": {name: value for name, value in metrics.items() if name != "loss"},
        "standard_error": _standard_error(run, metrics),
        "loss": metrics.get("loss"),
        "log_loss": evaluated.log_loss,
        "seconds_evaluation": seconds,
        **costs,
        "machine": computed_on(run.compute, run.processes.size)
        | {"weights": "4 bits" if run.config.model.dtype == "nf4" else weights},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "base_weights": run.known.get("base model"),
        "data": run.fingerprint,
    }
    if run.config.has_lora:
        save_card(run, result, ranks.load(folder.ranks))
    write_json(folder.metrics, result)


def _trained_model(run: Context, scale: Mapping[str, Any] | None) -> Any:
    """The model that a finished training of this run has written; on the CPU. `scale`: that of its
    labels, if its head predicts them in the units of the file; the model then predicts on the scale
    of the training again."""
    folder = run.folder
    # the adapter is stock PEFT's: no projection is split for it
    if isinstance(run.config, WithLora):
        whole = run.config.lora.model_copy(update={"target_modules": [ALL_LINEAR]})
        run = run.under(run.config.model_copy(update={"lora": whole}))
    base = run.base().model
    if (folder.adapter / bottleneck.WEIGHTS).exists():
        model: Any = bottleneck.load(base, folder.adapter)
    elif folder.adapter.exists():
        model = PeftModel.from_pretrained(base, folder.adapter, is_trainable=True)
    elif folder.merged.exists():
        base.load_state_dict(
            type(base).from_pretrained(folder.merged, dtype=torch.float32).state_dict()
        )
        model = base.requires_grad_(True)
    elif run.config.evaluates_base:
        model = base
    else:
        raise UserError(
            f"--stage evaluate: {folder.root} has no trained model any more; --stage retrain "
            "trains one"
        )
    if scale is not None and scale["in_head"]:
        LabelScale(-scale["mean"] / scale["deviation"], 1 / scale["deviation"]).into_head(model)
    return model.eval()


def _put_evaluation_aside(folder: RunFolder) -> None:
    """Moves the files of an earlier evaluation to evaluate.old-N."""
    old = OverwriteFolders(folder.root / "evaluate").free
    for path in reversed(places_of(folder, "evaluate")):  # metrics.json first
        old.mkdir(exist_ok=True)
        os.rename(path, old / ("manifest" if path.is_dir() else path.name))


def _standard_error(run: Context, metrics: Mapping[str, float]) -> float | None:
    """The standard error of an accuracy, over inputs, as rows of one input depend on each other;
    None for others.

    This is the estimate of Agresti and Coull (1998): it adds two right and two wrong rows, so that
    the accuracy of a few rows that are all right does not look certain.
    """
    if next(iter(metrics)) != "accuracy":
        return None
    inputs = sum(len(set(rows.groups.tolist())) for rows in run.data.evaluation.values())
    share = (metrics["accuracy"] * inputs + 2) / (inputs + 4)
    return math.sqrt(share * (1 - share) / (inputs + 4))


def _write_texts(model: Any, run: Context, task: Conversations) -> dict[str, float]:
    """Writes predictions.jsonl with the texts of a language model; returns their metrics, {} if
    none are asked for.

    Where texts are scored, predictions.txt and references.txt are for `python -m problems.scoring`;
    else samples.jsonl holds them for the report. Raises Interrupted between two batches after a
    signal.
    """
    folder = run.folder
    tokenizer = run.tokenizer
    (evaluated,) = run.data.evaluation.values()
    rows = task.decoded(evaluated.examples)
    if not len(rows):
        return {}
    known = list(map(Conversation.of, rows))
    prompts = task.prompts(rows, tokenizer)
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            run.stop.check()

        found = decode(
            model, tokenizer, prompts, task.config.decoding, task.ends(tokenizer), after_batch
        )
    written = (
        {
            "messages": one.prompt,
            "prompt": tokenizer.decode(prompt),
            "prompt_ids": prompt,
            "text": answer.text,
            "token_ids": answer.ids,
        }
        for one, prompt, answer in zip(known, prompts, found, strict=True)
    )
    write_json_lines(folder.written, written)
    if not task.config.scores_texts:
        samples = (
            {"prompt": one.prompt, "answer": answer.text, "reference": one.references[0]}
            for one, answer in zip(known, found, strict=True)
        )
        write_json_lines(folder.samples, samples)
        return {}
    texts = [" ".join(answer.text.split()) for answer in found]  # as the official scorers read them
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    # In the format of the E2E script: one reference per line, with a blank line between the
    # records.
    groups = ["".join(f"{' '.join(text.split())}\n" for text in one.references) for one in known]
    write_text(folder.references, "\n".join(groups))
    return task.score_texts(texts, rows)


def _restore_label_scale(run: Context, model: Any) -> dict[str, Any] | None:
    """After the evaluation, makes the model predict numbers in the units of the user's file,
    where its head can.

    Returns what metrics.json says about this; None if the labels are not on a scale of their
    own."""
    scale = run.task.label_scale
    if scale is None:
        return None
    # The head is loaded in the precision of the other weights: only here it is fp32 in any case.
    half = scale.needs_fp32 and run.weights_dtype != torch.float32
    in_head = not half and scale.into_head(model)
    if not in_head:
        log.warning(
            "the head cannot hold the labels' units, so that the adapter predicts (number - "
            "%.9g) / %.6g instead of the number",
            scale.mean,
            scale.deviation,
        )
    return dataclasses.asdict(scale) | {"in_head": in_head}


def _costs(
    run: Context, record: RankRecord | None, state: TrainerState, prepared: Prepared
) -> dict[str, Any]:
    """What metrics.json says of size, time and memory. `seconds.total`: of one run at the chosen
    rate, without the sweep of learning rates."""
    config = run.config
    folder = run.folder
    searched: Mapping[str, Any] = read_json(folder.search_summary) if config.searches else {}
    if config.searches == "trials":
        trials = read_json(folder.grid_trials).get("trials", [])
        searched = {key: sum(trial[key] for trial in trials) for key in ("seconds", "steps")}
    swept = read_json(folder.sweep_trials).get("trials", [])
    seconds = {
        "search": searched.get("seconds", prepared.seconds),
        "measure": read_json(folder.measured).get("seconds")
        if config.searches == "gradients"
        else None,
        "retrain": seconds_of(state),
    }
    return {
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "learning_rates_tried": [trial["tried"]["learning_rate"] for trial in swept],
        "seconds_sweep": sum(trial["seconds"] for trial in swept),
        "seed": config.seed,
        "seconds": seconds | {"total": sum(filter(None, seconds.values()))},
        "steps": {"search": searched.get("steps"), "retrain": state.global_step},
        "peak_memory_mib": max(peak_memory(run.compute), searched.get("peak_memory_mib", 0.0)),
    }
