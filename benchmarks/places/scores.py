"""What searches say of each layer before any of it is trained again: the scores that are judged."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autolora.configs.errors import UserError
from autolora.configs.facts import recorded_data_seed
from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.rules import kept_components
from autolora.engine.run.contents import read_result, read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.verdict.again import ROWS

Score = Callable[[LayerRank, RankRecord], float | None]
"""A score of a layer; None if the run has not measured the values from which the score is computed."""


def _above(layer: LayerRank, record: RankRecord) -> float | None:
    if not layer.alpha:
        return None
    return float(kept_components(np.array([layer.alpha]), record.constraint).sum())  # type: ignore[arg-type]


SCORES: Mapping[str, Score] = {
    "share of the largest component": lambda layer, _: max(layer.share, default=None),
    "share of the layer": lambda layer, _: layer.layer_share,
    "size: the largest singular value, squared": lambda layer, _: (
        layer.singular_values[0] ** 2 if layer.singular_values else None
    ),
    "contribution: the largest alpha |B| |A|": lambda layer, _: max(layer.contribution, default=None),
    "rank by the paper's threshold": _above,
}
"""Name -> score, computed from the ranks.json of a search."""


def refuse_other_rows(folders: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Raises UserError for a search, or a run of method eva, on other rows than the trainings of a study, which have
    these `settings`: some of the rows that judge the trainings could have chosen its ranks."""
    for root in folders:
        folder = RunFolder(root)
        own = read_searched(folder.search_summary).get("settings") or read_result(folder.metrics).get("settings", {})
        _refuse(f"--searched: {root}", row_keys(own), settings)


def _refuse(what: str, own: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises UserError if a search with these row keys (`own`) had other rows than trainings with these `settings`.
    `what`: the option and the search, which begin the message."""
    ours = row_keys(settings)
    for key in own:
        # A search on a hub's benchmark does not record which split is evaluated.
        if key in ours and own[key] != ours[key]:
            raise UserError(
                f"{what} was searched with --{key} {own[key]}, the trainings have {ours[key]}: rows that judge the "
                f"trainings may have been searched on; allowed: a search with the study's own rows"
            )


def row_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded keys that decide which rows are taken; the seed of the data is the run's own unless it is given."""
    found = {key: settings[key] for key in ROWS.read if key in settings}
    seed = recorded_data_seed(settings)
    return found | ({} if seed is None else {"task.seed": seed})


def scores_of(folders: Sequence[Path], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> the mean of each score over the runs that have measured it [layers].

    For a run that has measured none of the scores (such as one of method eva), its ranks count as the one score, named
    "rank by RULE". Raises UserError for a run without ranks or with other layers.
    """
    values: dict[str, list[list[float]]] = {}
    for root in folders:
        folder = RunFolder(root)
        if not folder.ranks.exists():
            raise UserError(f"{root}: it has no ranks.json; give the folder of a run that has found ranks")
        record = ranks.load(folder.ranks)
        by_name = {layer.name: layer for layer in record.layers}
        if set(by_name) != set(layers):
            raise UserError(f"{folder.ranks}: its layers are not those of the trainings")
        for name, own in _own(record, [by_name[name] for name in layers]).items():
            values.setdefault(name, []).append(own)
    return {name: np.mean(found, axis=0) for name, found in values.items()}


def measured_scores(
    path: Path, layers: Sequence[str], settings: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Name -> score [layers], from a file that `python -m benchmarks.scores` wrote.

    `settings`: those of a study's trainings, if there is one. Raises UserError for a file that cannot be
    read, is not such a file, has other layers, or is about searches on other rows than the study's.
    """
    if not path.exists():
        raise UserError(f"--measured: {path} does not exist; python -m benchmarks.scores --json writes such a file")
    content = read_json(path)
    own, scores, searches = content.get("layers") or [], content.get("scores") or {}, content.get("rows") or {}
    try:
        found = {str(name): np.array(values, dtype=float) for name, values in scores.items()}
        fitting = bool(found) and all(values.shape == (len(own),) for values in found.values())
        rows = {str(root): dict(keys) for root, keys in searches.items()}
    except (ValueError, TypeError, AttributeError):
        fitting = False
    if not fitting:
        raise UserError(f"--measured: {path} is not a file that python -m benchmarks.scores wrote: it must hold "
                        f"layers and, for each score, one number a layer")  # fmt: skip
    if set(own) != set(layers):
        raise UserError(f"--measured: the layers in {path} are not those of the trainings")
    for root, keys in rows.items():
        _refuse(f"--measured: {root} in {path}", keys, settings or {})
    order = [own.index(name) for name in layers]
    return {name: values[order] for name, values in found.items()}


def _own(record: RankRecord, layers: Sequence[LayerRank]) -> dict[str, list[float]]:
    """The scores of one run."""
    found = {name: [score(layer, record) for layer in layers] for name, score in SCORES.items()}
    measured = {name: [float(v) for v in own if v is not None] for name, own in found.items() if None not in own}
    return measured or {f"rank by {record.rule}": [float(layer.rank) for layer in layers]}
