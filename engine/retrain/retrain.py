"""The retraining: train once on D_tr and D_val together, and write the model in every form that is
asked for."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_json_lines
from autolora.engine.export.adapter import Export
from autolora.engine.ranks.record import BY_HAND, RankRecord
from autolora.engine.retrain.fit import begin, fit, points_of, seconds_of, trained_parameters
from autolora.engine.retrain.prepared import Method, Prepared, Training
from autolora.engine.run.resources import peak_memory
from autolora.engine.world import World
from autolora.problems.models.base import Base
from autolora.problems.tasks.scoring import Scoring

log = logging.getLogger("autolora")


@dataclass(frozen=True)
class Retrained:
    """A finished training.

    `trained`: the model with its ranks, which `save` writes as `export` says. `points`: the
    training loss and the learning rate over the steps. `cost`: its size, steps, seconds, memory and
    learning rate. `label_scale`: that of labels which are learned on a scale of their own, and
    whether the head predicts them in the units of the file; None for others.
    """

    trained: Prepared
    export: Export
    points: Sequence[Mapping[str, Any]]
    cost: Mapping[str, Any]
    label_scale: Mapping[str, Any] | None

    def save(self, root: Path) -> None:
        """Writes ranks.json, adapter/ or merged/ (neither if nothing was trained), what else
        `export` asks for and, last, retrain/summary.json."""
        record = self.trained.record
        if record is not None and record.rule != BY_HAND and not self._edited(root, record):
            ranks.save(record, root / "ranks.json")
        self.trained.save(root, self.export)
        if self.points:
            write_json_lines(root / "retrain_metrics.jsonl", self.points)
        cost = {**self.cost, "label_scale": self.label_scale}
        write_json(root / "retrain" / "summary.json", cost)

    def _edited(self, root: Path, record: RankRecord) -> bool:
        """Whether the ranks that a search has found were edited while they were trained at: the
        edit stays, and the next command refuses it."""
        path = root / "ranks.json"
        found = self.export.for_trainers and path.exists()
        return found and ranks.load(path).kept != record.kept


def retrain(
    base: Base, method: Method, training: Training, export: Export, world: World
) -> Retrained:
    """Trains the model that the method prepares. `export`: in which forms it is written.

    Resumes from the newest checkpoint in `world.work`, if any. Raises Interrupted when a signal
    asked to stop, UserError for what the user must change.
    """
    set_seed(training.seed)
    prepared = method.prepare(base.lend(), training, world)
    trainable = trained_parameters(prepared.model)
    log.info("retrain: %d rows, %s trained parameters", len(training.rows), f"{trainable:,}")
    begin(prepared, training, world)
    trained, state = fit(prepared, training, world)
    scale = _restore_label_scale(training.scoring, trained.model, base.dtype)
    record = trained.record
    cost = {
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "seconds": seconds_of(state),
        "seconds_of_ranks": prepared.seconds,
        "steps": state.global_step,
        "peak_memory_mib": peak_memory(world.compute),
        "trainable_parameters": trainable,
        "learning_rate": training.settings.rates[0] if state.global_step else None,
    }
    return Retrained(trained, export, points_of(state), cost, scale)


def _restore_label_scale(
    scoring: Scoring, model: Any, dtype: torch.dtype
) -> Mapping[str, Any] | None:
    """Makes a trained model predict numbers in the units of the user's file, where its head can;
    returns the scale, and whether it could. `dtype`: of the frozen weights."""
    scale = None if scoring.task is None else scoring.task.label_scale
    if scale is None:
        return None
    # The head is loaded in the precision of the other weights: only here it is fp32 in any case.
    half = scale.needs_fp32 and dtype != torch.float32
    in_head = not half and scale.into_head(model)
    if not in_head:
        log.warning(
            "the head cannot hold the labels' units, so that the adapter predicts (number - "
            "%.9g) / %.6g instead of the number",
            scale.mean,
            scale.deviation,
        )
    return dataclasses.asdict(scale) | {"in_head": in_head}
