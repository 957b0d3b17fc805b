"""Check whether the rows, and the base model, are still those with which work in the run's folder was done."""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autolora.configs.schema import Stage
from autolora.engine.run.contents import data_of_ranks
from autolora.engine.run.resuming import Outdated

if TYPE_CHECKING:  # it needs torch and transformers, which take seconds to load
    from autolora.engine.run.workbench import Workbench

log = logging.getLogger("autolora")

NO_MODEL = (
    "bring the old model back to resume (of a hub: by --model.revision), --name for another run, or --overwrite to "
    "start again"
)


def refuse_changed_data(run: "Workbench", recorded: Mapping[str, Any], *, evaluated: bool = True) -> None:
    """Raises Outdated, naming the file or data set, when the rows are not those in the fingerprint `recorded`.

    The base model is compared when it is loaded, which then raises Outdated.

    `evaluated`: whether the evaluation rows must be the same, too. All processes must call this function.
    """
    began = f"the half-done run in {run.folder.root} began with"
    change = data_change(run, recorded, began, evaluated=evaluated)
    if change:
        raise Outdated(
            f"{change}; bring the old data back to resume, --name for another run, or --overwrite to start again"
        )
    run.weights.expect(recorded.get("weights"), began, NO_MODEL)


def heed_data_of_ranks(run: "Workbench", stage: Stage) -> None:
    """Checks that a search or a grid chose the ranks on the training rows of this run, and with its base model; the
    model is compared when it is loaded.

    If they are not the same, stage all raises Outdated, as its result would mix two data sets. --stage retrain takes
    any ranks and only logs a warning; but it, too, raises Outdated if it would start from weights that were searched
    for other classes or with another base model. All processes must call this function.
    """
    folder = run.folder
    if not run.config.searches:
        return
    recorded = run.processes.of_first(lambda: data_of_ranks(folder))
    change = data_change(run, recorded, f"the ranks in {folder.ranks} were chosen on", evaluated=False)
    if change and run.config.retrain.start == "search" and recorded["classes"] != run.fingerprint["classes"]:
        # The retraining would start from a head for other classes.
        raise Outdated(f"{change}; bring the old data back, or use --retrain.init scratch with --stage retrain")
    if change and stage == "all":
        raise Outdated(
            f"{change}; bring the old data back, --stage retrain to take those ranks as they are, --name for another "
            f"run, or --overwrite to start again"
        )
    if change:
        log.warning("%s; they are taken as they are", change)
    _heed_weights(run, stage, recorded.get("weights"))


def _heed_weights(run: "Workbench", stage: Stage, chosen_with: str | None) -> None:
    """Has the base model compared with the one with which the ranks were chosen, as soon as it is loaded."""
    way_out = None
    if run.config.retrain.start == "search":
        way_out = "bring the old model back, or use --retrain.init scratch with --stage retrain"
    elif stage == "all":
        way_out = (
            "bring the old model back (of a hub: by --model.revision), --stage retrain to take those ranks as they "
            "are, --name for another run, or --overwrite to start again"
        )
    run.weights.expect(chosen_with, f"the ranks in {run.folder.ranks} were chosen with", way_out)


def data_change(run: "Workbench", recorded: Mapping[str, Any], what: str, *, evaluated: bool) -> str | None:
    """A line about the first difference between the rows and the fingerprint `recorded`; None if there is none.

    `what`: the clause that ends "... no longer gives the training rows that", such as "the pairs were trained on".

    `evaluated`: whether the evaluation rows, and the training rows left unused, must be the same, too. All processes
    must call this function.
    """
    return next(_changes(run, recorded, what, evaluated=evaluated), None) if recorded else None


def differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints of runs with the same settings are of other rows; a part that one lacks is not
    compared. Rows that were read and then not used may differ, and so may the base model."""
    return any(one[part] != other[part] for part in one.keys() & other.keys() - {"source", "weights"})


def _changes(run: "Workbench", recorded: Mapping[str, Any], what: str, *, evaluated: bool) -> Iterator[str]:
    now, origin = run.fingerprint, run.kind.origin
    if recorded["classes"] != now["classes"]:
        then = f"{_few(recorded['classes'])} then, {_few(now['classes'])} now"
        yield f"{origin()} no longer has the classes that {what} ({then})"
    if recorded["training"] != now["training"]:
        counts = _counts(recorded["training"], now["training"])
        yield f"{origin()} no longer gives the training rows that {what} ({counts})"
    # Another task.evaluation_rows takes other rows of the same file: a change of settings, which `Settings` compares.
    if not evaluated or recorded["evaluation_rows"] != now["evaluation_rows"]:
        return
    for split, found in now["evaluation"].items():
        then = recorded["evaluation"].get(split, found)
        if then != found:
            yield f"{origin(split)} no longer gives the {split} rows that {what} ({_counts(then, found)})"
    if "unused" in recorded and "unused" in now and recorded["unused"] != now["unused"]:
        counts = _counts(recorded["unused"], now["unused"])
        yield f"{origin()} no longer gives the unused training rows that {what} ({counts})"


def _counts(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if then["rows"] == now["rows"]:
        return f"{now['rows']}, but not the same ones or in another order"
    return f"{then['rows']} then, {now['rows']} now"


def _few(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
