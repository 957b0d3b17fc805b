"""Check, before a cell of a study is trained, that its rows and its base model are those of the finished cells: a file
may have been edited since, and the cell could not be compared with them."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from autolora.configs.errors import UserError
from autolora.configs.requests import Alike
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder

if TYPE_CHECKING:  # it needs torch and transformers, which take seconds to load
    from autolora.engine.run.workbench import Workbench

_WAY_OUT = "bring it back, or remove {} to train that run again, too"


def refuse_other_data(run: "Workbench", alike: Alike) -> None:
    """Raises UserError, which names a finished run, if `run` does not read the rows with which that one was made.

    The base model is compared later, when it is loaded; Outdated is raised then if its weights are others. All
    processes must call this function."""
    if alike.rows is not None:
        then, now = _result(run, alike.rows).get("data") or {}, run.fingerprint
        if "source" in then and any(then.get(part) != now.get(part) for part in ("source", "classes")):
            way_out = _WAY_OUT.format(alike.rows)
            raise UserError(
                f"{run.kind.origin()} no longer holds the rows with which {alike.rows} was made; {way_out}"
            )
    if alike.weights is not None:
        digest = _result(run, alike.weights).get("base_weights")
        run.weights.expect(digest, f"{alike.weights} was made with", _WAY_OUT.format(alike.weights))


def _result(run: "Workbench", root: Any) -> dict[str, Any]:
    """metrics.json of a run, as the first process reads it; empty if it is damaged, which is told elsewhere."""

    def read() -> dict[str, Any]:
        with suppress(UserError):
            return read_result(RunFolder(root).metrics)
        return {}

    return run.processes.of_first(read)
