"""What LoRA in each layer is worth, from trainings at random places: `python -m benchmarks.places`.

--study: the folder of a study of lora_random at --lora.cap 1, such as places.yaml makes. A regression predicts the
loss from the layers that had LoRA. It tells how much of the loss the places explain, and by how much LoRA in each
layer lowers it (the layer's effect). The scores of --searched runs, and those that `python -m benchmarks.scores`
measured, are compared with these effects and the losses.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

from benchmarks.command import main
from benchmarks.places.allocations import joined, of_study, read_table, write_table
from benchmarks.places.effects import agreement, effects, explained
from benchmarks.places.picture import draw_effects
from benchmarks.places.scores import measured_scores, scores_of
from configs.errors import UserError

FEWEST = 20
"""Fewer trainings tell nothing of dozens of layers."""


@dataclass(frozen=True)
class PlacesSettings:
    """What is read and written."""

    json: str | None = None
    """File that gets the numbers."""
    study: str | None = None
    """Folder of a study with the trainings; those that are not finished are left out."""
    table: str | None = None
    """CSV file with the trainings of earlier commands. With --study, the study's own are added to it."""
    searched: list[str] = field(default_factory=list)
    """Folders of runs whose scores are judged: searches of several seeds count as their mean."""
    measured: str | None = None
    """JSON file with scores that `python -m benchmarks.scores` measured."""
    picture: str | None = None
    """PNG file that gets the effect of each layer."""

    FILES: ClassVar = ("table", "picture")


def measure_places(settings: PlacesSettings) -> tuple[dict[str, Any], list[Table]]:
    """The explained part of the loss, and how well each score foretells it. Raises UserError for too few trainings."""
    known = Path(settings.table) if settings.table else None
    parts = [read_table(known)] if known and known.exists() else []
    parts += [of_study(Path(settings.study))] if settings.study else []
    if not parts:
        raise UserError("--study, --table: give at least one of them, with trainings to read")
    found = joined(parts)
    if known and settings.study:
        write_table(found, known)
    if len(found.table) < FEWEST:
        raise UserError(f"--study: {len(found.table)} finished trainings are too few; allowed: {FEWEST} or more")
    described, worth = explained(found), effects(found)
    scores = {"number of layers: every layer counts the same": found.chosen[0] * 0 + 1}
    scores |= scores_of([Path(folder) for folder in settings.searched], found.layers)
    if settings.measured:
        scores |= measured_scores(Path(settings.measured), found.layers)
    judged = {name: agreement(score, found) for name, score in scores.items()}
    if settings.picture:
        draw_effects(found.layers, worth, Path(settings.picture))
    numbers = {
        "trainings": len(found.table), "gain": found.gain, "spread": float(found.centred.std(ddof=1)),
        "explained": {one.described_by: {"r2": one.r2, "spread": one.spread} for one in described},
        "effects": dict(zip(found.layers, worth.tolist(), strict=True)),
        "scores": {name: {"effects": own, "losses": losses} for name, (own, losses) in judged.items()},
    }  # fmt: skip
    return numbers, [_of_places(numbers), _of_scores(numbers)]


def _of_places(numbers: dict[str, Any]) -> Table:
    gain = numbers["gain"]
    gained = "" if gain is None else f", LoRA gains {gain:.4f}"
    table = Table(title=f"{numbers['trainings']} trainings, losses spread by {numbers['spread']:.4f} nats{gained}")
    table.add_column("the loss explained by")
    for column in ("leave-one-out R2", "explained spread, nats", "explained spread / gain"):
        table.add_column(column, justify="right")
    for name, one in numbers["explained"].items():
        part = f"{one['spread'] / gain:.1%}" if gain else "-"
        table.add_row(name, f"{one['r2']:.2f}", f"{one['spread']:.4f}", part)
    return table


def _of_scores(numbers: dict[str, Any]) -> Table:
    table = Table(title="Spearman correlation of scores known before the trainings")
    table.add_column("score")
    for column in ("with the layers' effects", "with the losses"):
        table.add_column(column, justify="right")
    for name, one in numbers["scores"].items():
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in one.values()))
    return table


if __name__ == "__main__":
    sys.exit(main(PlacesSettings, measure_places))
