"""The report reads what is there: nothing of an empty folder, everything of a finished run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.report.files import files_of
from autolora.engine.run.folder import RunFolder


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    found = files_of(RunFolder(tmp_path))
    assert not any(vars(found).values())


@pytest.mark.trains
def test_a_finished_run_has_all_but_a_verdict(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    found = files_of(folder)
    assert [name for name, value in vars(found).items() if not value and name not in ("answer", "trust")] == [
        "verdict"
    ]
    record = ranks.load(folder.ranks)
    assert found.record is not None
    assert found.record.ranks == record.ranks
    assert found.record.lora_parameters == sum(rank * found.sizes[name] for name, rank in record.ranks.items())
    assert found.curves is not None
    assert found.curves.names == [layer.name for layer in record.layers]
    assert len(found.search_metrics) == len(folder.search_metrics.read_text().splitlines())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json"):
        files_of(RunFolder(tmp_path))
