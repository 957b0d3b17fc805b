"""Why a cell has no result: it failed, is damaged, half-done, or has not begun."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.failure import keep_failure
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.lacking import without_result


def test_each_cell_without_a_result_has_a_reason(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config("--method", "full"), study=StudyConfig({"seed": [0, 1, 2, 3, 4]}))
    cells = expand(config, StudyFolder(tmp_path))
    known, failed, damaged, half_done, waiting = cells
    failed.folder.root.parent.mkdir()
    keep_failure(failed.folder, "--seed: no")
    write_text(damaged.folder.metrics, "{")
    write_text(half_done.folder.config, "")
    table = dict(without_result(cells, {known.config.name}))
    assert table[failed.config.name] == "--seed: no"
    assert table[damaged.config.name].startswith(f"{damaged.folder.metrics}: not readable as JSON")
    assert table[half_done.config.name] == "it is half-done"
    assert table[waiting.config.name] == "it has not begun"
    assert len(table) == 4
    assert without_result(cells[:1], {known.config.name}) == []


def test_cells_that_have_not_begun_share_the_last_row(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config("--method", "full"), study=StudyConfig({"seed": [0, 1, 2, 3]}))
    cells = expand(config, StudyFolder(tmp_path))
    write_text(cells[2].folder.config, "")
    names = [cell.config.name for cell in cells]
    assert without_result(cells, names[:1]) == [
        (names[2], "it is half-done"),
        (f"2 cells, the first of them {names[1]}", "they have not begun"),
    ]
