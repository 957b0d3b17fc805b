"""What LoRA in each layer is worth, from trainings at random places: `python -m benchmarks.places`.

--study: the folder of a study of lora_random at --lora.cap 1, such as places.yaml makes. The same allocations (choices
of layers) at two seeds tell how much of the loss the places decide. A regression predicts the loss from the layers
that had LoRA; it tells in which layers LoRA lowers the loss more than in others (the layers' effects). The scores of
--searched runs, and those that `python -m benchmarks.scores` measured, are compared with these effects and the losses.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.engine.terminal.console import console
from benchmarks.command import Settings, main
from benchmarks.kept import gathered
from benchmarks.places import allocations
from benchmarks.places.allocations import Allocations
from benchmarks.places.effects import effects, explained
from benchmarks.places.judged import Judged, judge
from benchmarks.places.picture import draw_effects
from benchmarks.places.repeats import in_words, repeats
from benchmarks.places.scores import measured_scores, refuse_other_rows, scores_of
from benchmarks.places.tables import of_places, of_scores

FEWEST = 20
"""Fewer allocations tell nothing of dozens of layers."""


@dataclass(frozen=True)
class PlacesSettings(Settings):
    """What is read and written."""

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

    FILES: ClassVar = ("table",)
    PICTURES: ClassVar = ("picture",)


def measure_places(settings: PlacesSettings) -> tuple[dict[str, Any], list[Table]]:
    """How much the places decide, and how well each score foretells it. Raises UserError for too few trainings."""
    found = gathered(allocations, settings.table, [settings.study] if settings.study else [], "--study")
    count = len(found.mean)
    if count < FEWEST:
        raise UserError(f"--study: trainings at {count} allocations are too few; allowed: {FEWEST} or more")
    if not found.settings and (settings.searched or settings.measured):
        console.print("--table does not tell which rows judge its trainings, so that it was not checked whether the "
                      "searches used some of them; --study checks it")  # fmt: skip
    refuse_other_rows([Path(folder) for folder in settings.searched], found.settings)
    scores = {"number of layers: every layer counts the same": np.ones(len(found.layers))}
    scores |= scores_of([Path(folder) for folder in settings.searched], found.layers)
    if settings.measured:
        scores |= measured_scores(Path(settings.measured), found.layers, found.settings)
    if settings.picture:
        draw_effects(found.layers, effects(found), Path(settings.picture))
    return _numbers(found, judge(scores, found))


def _numbers(found: Allocations, judged: Mapping[str, Judged]) -> tuple[dict[str, Any], list[Table]]:
    """The numbers for the JSON file, and the tables."""
    described, again, gain = explained(found), repeats(found), found.gain
    said = in_words(again, gain)
    numbers = {
        "trainings": len(found.table), "allocations": len(found.mean), "gain": gain, "said": said,
        "spread": float(found.mean.std(ddof=1)), "places": None if again is None else asdict(again),
        "explained": {one.described_by: {"r2": one.r2, "spread": one.spread} for one in described},
        "effects": dict(zip(found.layers, effects(found).tolist(), strict=True)),
        "scores": {name: asdict(one) for name, one in judged.items()},
    }  # fmt: skip
    gained = "" if gain is None else f", LoRA gains {gain:.4f}"
    title = (
        f"{len(found.table)} trainings of {len(found.mean)} allocations, whose mean losses spread by "
        f"{numbers['spread']:.4f} nats{gained}"
    )
    return numbers, [of_places(described, again, gain, title, said), of_scores(judged, again, len(found.mean))]


if __name__ == "__main__":
    sys.exit(main(PlacesSettings, measure_places))
