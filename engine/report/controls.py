"""Find the controls of a run (uniform and shuffled ranks, and no LoRA, under the same settings), or the commands that
make them.

Only controls can show whether it matters in which layers the ranks are.
"""

import math
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.facts import SEARCHING, WITHOUT_HEAD
from autolora.configs.files import load_config
from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.controls import can_be_shuffled
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import command_of, filled_in, is_cell, sibling_name
from autolora.engine.run.same_data import differ

UNIFORM_METHOD, SHUFFLED_METHOD, WITHOUT_LORA = "lora", "lora_shuffled", "head"
_FREE = ("method", "lora.r", "lora.ranks_from", "retrain.init_from")
_FREE_SECTIONS = ("search.", "hypergradient.", "answer.")
"""Settings in which a control may differ from its run: the control's training does not read them, or the control is
meant to differ in them."""


@dataclass(frozen=True)
class Compared:
    """A finished run in a comparison.

    `what`: its kind of ranks, in words. `score`: the value of its main metric. `loss`: its evaluation loss;
    `calibrated`: its evaluation loss at a fitted temperature; None if unknown."""

    what: str
    name: str
    parameters: int
    score: float
    loss: float | None
    calibrated: float | None


@dataclass(frozen=True)
class Missing:
    """A control that has not been run: its method, its ranks in words, and the command that runs it."""

    method: str
    what: str
    command: str


@dataclass(frozen=True)
class Controls:
    """A run and its controls.

    `metric`: the name of their scores. `runs`: the run itself, then its controls. `missing`: the controls that have
    not been run. `note`: what else a reader must know, or ""."""

    metric: str
    runs: list[Compared]
    missing: list[Missing]
    note: str


def controls_of(
    root: Path, result: Mapping[str, Any], record: RankRecord | None, sizes: Mapping[str, int] = MappingProxyType({})
) -> Controls | None:
    """The run in the folder `root`, with this result and record, and its controls among the folders beside it.

    None for a run without a result, and for a run whose method searches no ranks. `sizes`: layer -> LoRA parameters of
    rank 1; empty if not known. For a cell of a study no control is reported as missing, as the study's configuration
    says what is compared.
    """
    if record is None or result.get("method") not in SEARCHING or not result.get("settings"):
        return None
    root = root.resolve() if root.name in ("", "..") else root  # as of --show .
    metric = next(iter(result["metrics"]))
    beside = list(_beside(root, result["settings"], record))
    left_out = {place.name: what for place, other in beside if (what := _made_from(result, other))}
    found = [(place, other) for place, other in beside if place.name not in left_out]
    runs = [_compared(f"this run ({result['method']})", root.name, result, metric)]
    runs += [_compared(_what(other), place.name, other, metric) for place, other in found]
    missing, notes = [], []
    if left_out:
        named = ", ".join(f"{name} ({what})" for name, what in left_out.items())
        notes.append(f"Left out: {named}. Only runs on the same data and base model can be compared.")
    if record.all_equal:
        rank = record.layers[0].rank
        notes.append(f"Every layer has rank {rank}, so that uniform and shuffled ranks would be the same ranks.")
    elif not is_cell(RunFolder(root)):
        missing = _missing(RunFolder(root), result, record, [other for _, other in found], sizes, left_out)
        if _cannot_be_shuffled(record, sizes):
            notes.append("All layers of one size have equal ranks, so that a shuffle would change nothing.")
    if _from_search(result):
        notes.append("The training started from searched components; its controls start from the same search.")
    return Controls(metric, runs, missing, " ".join(notes))


def _made_from(result: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What another run was trained on or from that this one was not, in words; "" if no difference is known."""
    if differ(result.get("data") or {}, other.get("data") or {}):
        return "trained on other rows: the data changed in between"
    mine, its = result.get("base_weights"), other.get("base_weights")
    if mine is not None and its is not None and mine != its:
        return "trained from other weights of the base model, which changed in between"
    return ""


def _from_search(result: Mapping[str, Any]) -> bool:
    return bool(result["settings"].get("retrain.init") == "search")


def _missing(
    folder: RunFolder, result: Mapping[str, Any], record: RankRecord, found: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, int], left_out: Container[str],
) -> list[Missing]:  # fmt: skip
    """The controls that were not found; `left_out`: the names of runs that would be controls on the same data."""

    def missing(what: str, name: str, method: str, *more: str) -> Missing:
        init = ("--retrain.init_from", str(folder.root)) if _from_search(result) and method != WITHOUT_LORA else ()
        called = sibling_name(folder, name)
        again = ("--overwrite",) if called in left_out else ()  # else the command would find it finished
        options = shlex.join(("--method", method, *more, *init, *again))
        return Missing(method, what, f"{command_of(folder, called)} {options}")

    # The uniform rank with equally many parameters; the mean rank may cost more or less, as layers differ in size.
    per_rank = sum(sizes.values())
    cost = result["lora_parameters"] / per_rank if per_rank else record.mean_rank
    absent, rank = [], max(1, math.floor(cost + 0.5))
    if result["settings"].get("task.type") in WITHOUT_HEAD and not any(
        other["method"] == WITHOUT_LORA for other in found
    ):
        absent.append(missing("no LoRA: the base model", "base", WITHOUT_LORA))
    if not any(other["method"] == UNIFORM_METHOD and other["settings"].get("lora.r") == rank for other in found):
        own = f" ({rank * per_rank:,} LoRA parameters, this run {result['lora_parameters']:,})"
        what = f"uniform ranks: {rank} in every layer{own if per_rank else ''}"
        absent.append(missing(what, "uniform", UNIFORM_METHOD, "--lora.r", str(rank)))
    if not any(other["method"] == SHUFFLED_METHOD for other in found) and not _cannot_be_shuffled(record, sizes):
        what, more = "shuffled ranks: the same ones, in other layers", ("--lora.ranks_from", str(folder.ranks))
        absent.append(missing(what, "shuffled", SHUFFLED_METHOD, *more))
    return absent


def _cannot_be_shuffled(record: RankRecord, sizes: Mapping[str, int]) -> bool:
    """Whether a shuffle among layers of one size surely changes no rank."""
    known = {layer.name for layer in record.layers} <= set(sizes)
    return known and not can_be_shuffled(record, sizes, "size")


def _beside(root: Path, settings: Mapping[str, Any], record: RankRecord) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders beside `root` that hold a control by its settings and ranks, with their results; uniform ranks come
    first.

    Folders that are damaged or that this user may not read are skipped, as they belong to other runs."""
    found = []
    for place in _neighbours(root):
        folder = RunFolder(place)
        with suppress(UserError, OSError):
            if not folder.metrics.is_file():
                continue
            other = read_result(folder.metrics)
            if _controls(other, folder, root, settings, record):
                found.append((place, other))
    yield from sorted(found, key=lambda item: (item[1]["method"], item[1]["settings"].get("lora.r", 0)))


def _neighbours(root: Path) -> list[Path]:
    """The folders and files beside `root`, hidden ones left out; none if their folder cannot be listed."""
    with suppress(OSError):
        return sorted(
            place for place in root.parent.iterdir() if place.name != root.name and not place.name.startswith(".")
        )
    return []


def _controls(
    other: Mapping[str, Any], folder: RunFolder, root: Path, settings: Mapping[str, Any], record: RankRecord
) -> bool:
    """Whether the run with result `other` is a control of the run in `root`, which has these settings and ranks."""
    known = (UNIFORM_METHOD, SHUFFLED_METHOD, WITHOUT_LORA)
    if other["method"] not in known or not _same_settings(settings, other["settings"]):
        return False
    if other["method"] == WITHOUT_LORA:
        return True
    if settings.get("retrain.init") == "search" and not _starts_from(folder, root):
        return False
    # A shuffle under the same settings may be that of another run's ranks.
    return other["method"] == UNIFORM_METHOD or _same_ranks(record, ranks.load(folder.ranks))


def _starts_from(folder: RunFolder, root: Path) -> bool:
    """Whether the run in `folder` started from the searched components of the run in `root`."""
    config = load_config(folder.config)
    named = config.retrain.init_from
    return named is not None and filled_in(named, config).resolve() == root.resolve()


def _same_settings(settings: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    keys = {key for key in (*settings, *other) if key not in _FREE and not key.startswith(_FREE_SECTIONS)}
    return all(settings.get(key) == other.get(key) for key in keys)


def _same_ranks(record: RankRecord, shuffled: RankRecord) -> bool:
    """Whether both have the same ranks, in any order of the layers."""
    return sorted(x.rank for x in record.layers) == sorted(x.rank for x in shuffled.layers)


def _what(result: Mapping[str, Any]) -> str:
    if result["method"] == WITHOUT_LORA:
        return "no LoRA"
    if result["method"] == SHUFFLED_METHOD:
        return "shuffled ranks"
    return f"uniform, rank {result['settings'].get('lora.r')}"


def _compared(what: str, name: str, result: Mapping[str, Any], metric: str) -> Compared:
    score = float(result["metrics"].get(metric, math.nan))
    loss, calibrated = result.get("loss"), result.get("calibrated_loss")
    return Compared(what, name, result["lora_parameters"], score, loss, calibrated)
