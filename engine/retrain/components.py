"""Which searched components a retraining starts from: those of the run's own search, or of another run's."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import UserError
from configs.facts import FROM_COMPONENTS
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import read_json
from engine.ranks import RankRecord
from engine.run.contents import read_searched
from engine.run.folder import RunFolder
from engine.run.opening import Asked
from engine.run.places import filled_in
from engine.run.resuming import Outdated, Settings
from engine.run.same_data import data_change

if TYPE_CHECKING:  # it needs torch and transformers, which take seconds to load
    from engine.run.workbench import Workbench

log = logging.getLogger("autolora")

_MODEL = Settings(("model.name", "model.revision", "lora.lora_alpha"))
"""The searched weights fit only a training with the same values of these keys."""


@dataclass(frozen=True)
class Components:
    """What a search left: its weights file, and the record that says which components a layer keeps at a rank."""

    weights: Path
    record: RankRecord


def components_from(config: RunConfig) -> RunFolder | None:
    """The other run whose searched components the training starts from; None if there is no such run."""
    named = config.retrain.init_from
    starts = config.retrain.init == "search" and config.method in FROM_COMPONENTS
    return RunFolder(filled_in(named, config)) if starts and named is not None else None


def components_of(config: RunConfig, own: RunFolder, record: RankRecord) -> Components:
    """The components from which the run in the folder `own` starts, whose ranks are those of `record`."""
    other = components_from(config)
    if other is None:
        return Components(own.search_weights, record)
    return Components(other.search_weights, ranks.load(other.ranks))


def refuse_missing_components(asked: Asked) -> None:
    """Refuses, before the model is loaded, components of a run that has none, or that searched another model or at
    another scale."""
    source, config = components_from(asked.config), asked.config
    if source is None or asked.stage == "report" or asked.folder.metrics.exists():
        return
    missing = next(_missing(source), None)
    if missing is not None:
        raise UserError(
            f"--retrain.init_from: {source.root} has no {missing}; allowed: the folder of a run of method autolora "
            f"whose search is finished"
        )
    _MODEL.refuse_changed(
        read_searched(source.search_summary).get("settings", {}), config,
        f"{source.root} holds weights that were searched with", "give the old value, or --retrain.init scratch",
    )  # fmt: skip


def _missing(source: RunFolder) -> Iterator[Path]:
    for path in (source.search_summary, source.search_weights, source.ranks):
        if not path.exists():
            yield path.relative_to(source.root)


def heed_data_of_components(run: "Workbench") -> None:
    """Checks that the search of `retrain.init_from` had the classes of this run, and its base model, which is compared
    when it is loaded. Raises Outdated if not; other training rows are only warned of. All processes must call this."""
    source = components_from(run.config)
    if source is None:
        return
    recorded = run.processes.of_first(lambda: read_json(source.search_summary)).get("data", {})
    change = data_change(run, recorded, f"the components in {source.root} were searched on", evaluated=False)
    if change and recorded["classes"] != run.fingerprint["classes"]:
        raise Outdated(f"{change}; give another run as --retrain.init_from, or --retrain.init scratch")
    if change:
        log.warning("%s; its components are taken as they are", change)
    way_out = "bring the old model back, or use --retrain.init scratch"
    run.weights.expect(recorded.get("weights"), f"the components in {source.root} were searched with", way_out)
