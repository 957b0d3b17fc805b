"""A cell of a study is made from the same data and base model as the finished cells."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Alike
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.run.alike import refuse_other_data
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated
from autolora.engine.run.same_weights import KnownWeights
from autolora.problems.machine.processes import ALONE
from tests.helpers.finished import RESULT

ROWS = {"rows": 4, "sha256": "a"}
DATA: dict[str, Any] = {
    "classes": ["x", "y"],
    "training": ROWS,
    "evaluation_rows": None,
    "evaluation": {},
    "source": ROWS,
}


def bench(**changed: Any) -> Any:
    kind = SimpleNamespace(origin=lambda: "--task.path: t.csv")
    return cast("Any", SimpleNamespace(fingerprint=DATA | changed, kind=kind, processes=ALONE, weights=KnownWeights()))


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """The folder of a finished run."""
    write_json(RunFolder(tmp_path).metrics, RESULT | {"data": DATA, "base_weights": "w"})
    return tmp_path


@pytest.mark.parametrize("change", [{"source": {"rows": 5, "sha256": "b"}}, {"classes": ["x"]}])
def test_other_rows_than_those_of_the_finished_cells_are_refused(done: Path, change: dict[str, Any]) -> None:
    """The cell was trained first, and then could not be compared."""
    refuse_other_data(bench(), Alike(rows=done))
    with pytest.raises(
        UserError, match=rf"^--task\.path: t\.csv no longer holds the rows with which {done} was made; "
    ):
        refuse_other_data(bench(**change), Alike(rows=done))
    refuse_other_data(bench(**change), Alike())


def test_another_base_model_is_refused_when_it_is_loaded(done: Path) -> None:
    run = bench()
    refuse_other_data(run, Alike(weights=done))
    with pytest.raises(
        Outdated, match=rf"^--model\.name: m no longer has the weights that {done} was made with; bring"
    ):
        run.weights.check("other", "m")


def test_a_damaged_result_is_left_to_the_check_of_damaged_cells(done: Path) -> None:
    write_text(RunFolder(done).metrics, "{")
    refuse_other_data(bench(source=None), Alike(done, done))
