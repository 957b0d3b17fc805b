"""Which searched components a retraining starts from: those of the run's own search, or of another run's."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain import checkpoint
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import data_of_ranks, read_searched, read_trials_file
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in
from autolora.engine.run.resuming import Outdated, Settings
from autolora.engine.run.same_data import data_change

if TYPE_CHECKING:  # it needs torch and transformers, which take seconds to load
    from autolora.engine.run.workbench import Workbench

_MODEL = Settings(("model.name", "model.revision", "lora.lora_alpha"))
"""The searched weights fit only a training with the same values of these keys."""
_HALVES = Settings(("task.validation_share", "task.split_by"))
"""These keys divide the training rows into D_tr and D_val."""
_WAY_OUT = "give the old value, another run as --retrain.init, or --retrain.init scratch"


@dataclass(frozen=True)
class Components:
    """What a search left: its weights file, and the record that says which components a layer keeps at a rank."""

    weights: Path
    record: RankRecord


def adapter_to_start_from(config: RunConfig) -> Path | None:
    """The folder of the cut adapter from which the training goes on; None if it does not start from one."""
    start = config.retrain.start
    folder = None if start in ("scratch", "search") else Path(filled_in(start, config))
    return folder if folder is not None and (folder / "adapter_config.json").exists() else None


def components_from(config: RunConfig) -> RunFolder | None:
    """The other run whose searched components the training starts from; None if there is no such run."""
    start = config.retrain.start
    if start in ("scratch", "search") or adapter_to_start_from(config) is not None:
        return None
    return RunFolder(filled_in(start, config))


def components_of(config: RunConfig, own: RunFolder, record: RankRecord) -> Components:
    """The components from which the run in the folder `own` starts, whose ranks are those of `record`."""
    other = components_from(config)
    if other is None:
        return Components(own.search_weights, record)
    return Components(other.search_weights, ranks.load(other.ranks))


def components_digest(config: RunConfig) -> str | None:
    """A SHA-256 of the other run's searched weights, by which a new search is noticed. None if the training does not
    start from another run's components, or if their file is gone."""
    source = components_from(config)
    if source is None or not source.search_weights.exists():
        return None
    with source.search_weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_missing_components(asked: Asked) -> None:
    """Refuses, before the model is loaded, components of a run that has none, or that searched another model, at
    another scale, or on another division of the rows if D_val is to choose a learning rate."""
    source, config = components_from(asked.config), asked.config
    if source is None or asked.stage == "report" or (asked.folder.metrics.exists() and not asked.replaces):
        return
    missing = next(_missing(source), None)
    if missing is not None:
        raise UserError(
            f"--retrain.init: {source.root} has no {missing}; allowed: the folder of a run of method autolora "
            f"whose search is finished"
        )
    recorded = read_searched(source.search_summary).get("settings", {})
    _MODEL.refuse_changed(recorded, config, f"{source.root} holds weights that were searched with", _WAY_OUT)
    if len(config.retrain.rates) > 1:
        what = f"{source.root} divided the rows into D_tr and D_val with"
        _HALVES.refuse_changed(recorded, config, what, f"{_WAY_OUT}, or one --retrain.learning_rate")
        _refuse_other_seed(recorded, config, what)


def _refuse_other_seed(recorded: Mapping[str, Any], config: RunConfig, what: str) -> None:
    """Refuses to choose a learning rate on rows of D_val on which the components were trained."""
    now, then = config.data_seed, data_seed_in(recorded)
    if then not in (None, now):
        raise Outdated(
            f"--task.seed: {what} seed {then}, now it is {now}, so that D_val has rows on which the components were "
            f"trained; give --task.seed {then}, or one --retrain.learning_rate"
        )


def data_seed_in(settings: Mapping[str, Any]) -> int | None:
    """The seed for draws from the data in recorded settings, key -> value; None if they have none."""
    seed = settings.get("task.seed")
    return settings.get("seed") if seed is None else seed


def _missing(source: RunFolder) -> Iterator[Path]:
    for path in (source.search_summary, source.search_weights, source.ranks):
        if not path.exists():
            yield path.relative_to(source.root)


def _refuse_changed_components(run: "Workbench", source: RunFolder) -> None:
    """Raises Outdated if half-done work in the run's folder began with components of another search."""
    folder, now = run.folder, components_digest(run.config)
    for work, then in (
        (f"the half-done retraining in {folder.root}", checkpoint.peek(folder.retrain).get("components")),
        (f"the sweep of learning rates in {folder.sweep}", read_trials_file(folder.sweep).get("components")),
    ):
        if then is not None and now is not None and then != now:
            raise Outdated(
                f"--retrain.init: {source.root} has other components than those that {work} began with; bring "
                f"the old search back to resume, --name for another run, or --overwrite to start again"
            )


def heed_data_of_components(run: "Workbench") -> None:
    """Checks that the search of `retrain.init` had the training rows and classes of this run, and its base model,
    which is compared when it is loaded. Raises Outdated if not: rows that this run evaluates could be among those on
    which the components were trained. All processes must call this function."""
    source = components_from(run.config)
    if source is None:
        return
    _refuse_changed_components(run, source)
    recorded = run.processes.of_first(lambda: data_of_ranks(source))
    change = data_change(run, recorded, f"the components in {source.root} were searched on", evaluated=False)
    if change:
        raise Outdated(
            f"{change}; rows that are evaluated now may have been trained on then; --task.seed keeps the rows of "
            f"another seed; else bring the old data back, or give --retrain.init scratch"
        )
    way_out = "bring the old model back, or give --retrain.init scratch"
    run.weights.expect(recorded.get("weights"), f"the components in {source.root} were searched with", way_out)
