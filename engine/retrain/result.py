"""metrics.json: the result of a run, what it cost, and the versions of the packages, on which the numbers depend."""

from datetime import UTC, datetime
from typing import Any

import torch

from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.evaluated import evaluated_on, standard_error
from autolora.engine.retrain.fit import Fitted
from autolora.engine.retrain.same_ranks import what_counts
from autolora.engine.retrain.settings import FINISHED
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.retrain.trials import read_trials
from autolora.engine.run.contents import read_answer, read_searched
from autolora.engine.run.context import Context
from autolora.engine.run.program import commit
from autolora.engine.run.resources import computed_on, peak_memory, versions
from autolora.problems.data import Data
from autolora.problems.tasks.inputs import inputs_of


def result_of(run: Context, fitted: Fitted, record: RankRecord | None, trainable: int, rate: float) -> dict[str, Any]:
    """The content of metrics.json. Its `seconds.total` is the time of one run at the chosen rate, without the sweep
    of learning rates."""
    config, searched = run.config, _searched(run)
    answer = read_answer(run.folder.answer).get("seconds") if config.method == "autolora" else None
    seconds = {"search": searched.get("seconds", fitted.found_in), "answer": answer, "retrain": fitted.seconds}
    metrics = {name: value for name, value in fitted.metrics.items() if name != "loss"}
    return {
        "method": config.method,
        "task": run.task.name,
        "split": run.task.evaluation_split,
        "evaluated_on": evaluated_on(config, run.task.name, run.task.evaluation_split, run.task.held_out),
        "evaluated_rows": fitted.rows,
        "metrics": metrics,
        "standard_error": standard_error(metrics, _inputs(run.data)),
        "loss": fitted.metrics.get("loss"),
        "calibrated_loss": fitted.calibrated_loss,
        "trainable_parameters": trainable,
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "learning_rate": None if config.evaluates_base else rate,
        "learning_rates_tried": [] if config.evaluates_base or len(config.retrain.rates) < 2 else config.retrain.rates,
        "seconds_sweep": sum(trial.seconds for trial in read_trials(run.folder.sweep)),
        "seconds_evaluation": fitted.seconds_evaluation,
        "seed": config.seed,
        "seconds": seconds | {"total": sum(s for s in seconds.values() if s is not None)},
        "steps": {"search": searched.get("steps"), "retrain": fitted.steps},
        "peak_memory_mib": max(peak_memory(run.compute), searched.get("peak_memory_mib", 0.0)),
        "machine": computed_on(run.compute, run.processes.size) | {"weights": _weights(run)},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "base_weights": run.weights.loaded,
        "data": run.fingerprint,
        "source_ranks": _source_ranks(run),
        "trained_ranks": record.kept if record else None,
        "source_components": components_digest(config),
        "settings": FINISHED.of(config),
    }


def _weights(run: Context) -> str:
    """The precision of the frozen weights."""
    if run.config.model.dtype == "nf4":
        return "4 bits"
    return "bf16" if run.weights_dtype == torch.bfloat16 else "fp32"


def _inputs(data: Data) -> int:
    """How many inputs the evaluation rows have; rows of one input depend on each other."""
    return sum(len(set(inputs_of(rows, range(len(rows))))) for rows in data.evaluation.values())


def _source_ranks(run: Context) -> dict[str, Any] | None:
    """The ranks that this run read by lora.ranks_from; None if it read none."""
    config = run.config
    if named_ranks(config) is None:
        return None
    return what_counts(ranks.load(ranks_from(config)))


def _searched(run: Context) -> dict[str, Any]:
    """Seconds, steps and memory of the stage that found the ranks; empty if no stage did."""
    if run.config.searches == "trials":
        trials = read_trials(run.folder.grid)
        return {"seconds": sum(t.seconds for t in trials), "steps": sum(t.steps for t in trials)}
    return read_searched(run.folder.search_summary) if run.config.searches else {}
