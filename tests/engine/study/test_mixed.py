"""Finished cells that do not belong together are refused: other rows, other base weights, ranks that changed since."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.command import run_request
from autolora.engine.disk.files import remove, write_json, write_text
from autolora.engine.retrain.components import components_digest
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.study import mixed
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.mixed import refuse_old_ranks
from tests.helpers.finished import RESULT
from tests.helpers.retraining import RANKS
from tests.helpers.studies import with_study
from tests.helpers.tiny import make_tokenizer

WORDS = sorted(word for word in make_tokenizer().get_vocab() if word.isalpha())[:12]
DATA = {
    "classes": ["a", "b"], "training": {"rows": 4, "sha256": "x"}, "evaluation_rows": None,
    "evaluation": {"test": {"rows": 2, "sha256": "y"}}, "weights": "w",
}  # fmt: skip


def cells_of(config: RunConfig, axes: dict[str, list[Any]]) -> list[Cell]:
    config = with_study(config, axes)
    return expand(config, StudyFolder.of(config))


def finish(cell: Cell, **parts: Any) -> None:
    write_json(cell.folder.metrics, RESULT | {"data": DATA, "base_weights": "w"} | parts)


def refuse_mixed(cells: list[Cell]) -> None:
    """As a study does whose settings are, but for its axes, those of the first cell."""
    folder = StudyFolder(cells[0].folder.root.parent.parent)
    mixed.refuse_mixed(AskedOf(cells[0].config, folder), cells)


CHANGES: dict[str, dict[str, Any]] = {
    "training rows": {"data": {**DATA, "training": {"rows": 4, "sha256": "z"}}},
    "evaluation rows": {"data": {**DATA, "evaluation": {"test": {"rows": 3, "sha256": "y"}}}},
    "classes": {"data": {**DATA, "classes": ["a", "c"]}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_cells_on_rows_that_changed_are_refused(tiny_config: Callable[..., RunConfig], change: str) -> None:
    cells = cells_of(tiny_config(), {"method": ["lora", "head"]})
    finish(cells[0])
    refuse_mixed(cells)
    finish(cells[1], **CHANGES[change])
    message = f"--task.path: sample gave other rows when {cells[0].folder.root} was made than when "
    with pytest.raises(UserError, match=re.escape(message + str(cells[1].folder.root))):
        refuse_mixed(cells)


SOURCE = {"source": {"rows": 6, "sha256": "s"}}
FILE = ("--task.type", "text", "--task.path", "t.csv")


@pytest.mark.parametrize(
    "axis",
    [{"seed": [0, 1]}, {"task.train_rows": [20, 30]}, {"model.name": ["m", "n"]}, {"task.evaluation_rows": [5, 6]}],
)
def test_cells_of_other_seeds_or_other_cuts_are_refused_if_the_file_changed(
    tiny_config: Callable[..., RunConfig], axis: dict[str, list[Any]]
) -> None:
    """Their rows differ in any case, so that only the digest of the whole file can tell."""
    cells = cells_of(tiny_config(*FILE), axis)
    finish(cells[0], data=DATA | SOURCE)
    finish(cells[1], **CHANGES["training rows"])
    refuse_mixed(cells)  # it is not known what the second one read
    finish(cells[1], data=CHANGES["training rows"]["data"] | SOURCE)
    refuse_mixed(cells)
    finish(cells[1], data=CHANGES["training rows"]["data"] | {"source": {"rows": 6, "sha256": "other"}})
    with pytest.raises(UserError, match=r"^--task\.path: t\.csv held other rows when .* was made than when .* was; "):
        refuse_mixed(cells)


@pytest.mark.parametrize("axis", [{"task.path": ["a.csv", "b.csv"]}, {"task.label_column": ["x", "y"]}])
def test_cells_that_are_meant_to_read_other_rows_are_kept(
    tiny_config: Callable[..., RunConfig], axis: dict[str, list[Any]]
) -> None:
    cells = cells_of(tiny_config(*FILE), axis)
    finish(cells[0], data=DATA | SOURCE)
    finish(cells[1], data=DATA | {"source": {"rows": 6, "sha256": "other"}})
    refuse_mixed(cells)


def test_the_sample_task_writes_other_rows_for_every_seed(tiny_config: Callable[..., RunConfig]) -> None:
    cells = cells_of(tiny_config(), {"seed": [0, 1]})
    for cell in cells:
        rows = {"rows": 6, "sha256": str(cell.config.seed)}
        finish(cell, data=DATA | {"training": rows, "source": rows})
    refuse_mixed(cells)


PROBE_CHANGES: dict[str, dict[str, Any]] = {
    "--task.path: t.csv held other rows": {"source": {"rows": 6, "sha256": "other"}},
    "--task.path: t.csv gave other rows": {"training": {"rows": 4, "sha256": "z"}},
    "--model.name: ": {"weights": "v"},
}


@pytest.mark.parametrize("change", PROBE_CHANGES)
def test_a_comparison_on_other_rows_than_the_cells_is_refused(
    tiny_config: Callable[..., RunConfig], change: str
) -> None:
    cells = cells_of(tiny_config(*FILE), {"seed": [0, 1]})
    folder = StudyFolder(cells[0].folder.root.parent.parent)
    finish(cells[0], data=DATA | SOURCE)
    # Its settings may have had another number of evaluation rows, which it does not read.
    probed = DATA | SOURCE | {"evaluation_rows": 9, "evaluation": {"test": {"rows": 9, "sha256": "x"}}}
    write_json(folder.probe_settings, {"data": probed | PROBE_CHANGES[change]})
    refuse_mixed(cells)  # there is no comparison: its file was removed
    write_text(folder.probe, "")
    with pytest.raises(UserError, match=f"^{re.escape(change)}.* was made than when {folder.probe} was; "):
        refuse_mixed(cells)
    write_json(folder.probe_settings, {"data": probed})
    refuse_mixed(cells)


@pytest.mark.parametrize("axis", [{"seed": [0, 1]}, {"task.max_length": [8, 16]}, {"task.train_rows": [20, 30]}])
def test_cells_that_are_meant_to_have_other_rows_are_kept(
    tiny_config: Callable[..., RunConfig], axis: dict[str, list[Any]]
) -> None:
    cells = cells_of(tiny_config(), axis)
    for cell, change in zip(cells, [{}, CHANGES["training rows"]], strict=True):
        finish(cell, **change)
    refuse_mixed(cells)


def test_another_base_model_is_refused_across_seeds_and_a_damaged_or_old_result_passes(
    tiny_config: Callable[..., RunConfig],
) -> None:
    cells = cells_of(tiny_config(), {"seed": [0, 1, 2, 3]})
    finish(cells[0])
    finish(cells[1], data=None, base_weights=None)
    cells[2].folder.root.mkdir(parents=True)
    cells[2].folder.metrics.write_text("{")
    refuse_mixed(cells)
    finish(cells[3], base_weights="v")
    with pytest.raises(UserError, match=r"^--model\.name: .* had other weights when .*seed-0 was .*seed-3 was"):
        refuse_mixed(cells)


def test_a_control_at_ranks_that_its_source_no_longer_has_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--lora.ranks_from", "{runs}/method-autolora/ranks.json")
    source, control = cells_of(config, {"method": ["autolora", "lora_shuffled"]})
    ranks = {layer["name"]: layer["rank"] for layer in RANKS["layers"]}
    finish(control, source_ranks={"k": 3, **ranks})
    refuse_old_ranks([source, control])  # the source was removed, and is trained again
    write_json(source.folder.ranks, RANKS)
    refuse_old_ranks([source, control])
    write_json(source.folder.ranks, {**RANKS, "k": 8})
    with pytest.raises(UserError, match=rf"^--lora\.ranks_from: {control.folder.root} was trained at other ranks"):
        refuse_old_ranks([source, control])


def test_a_cell_with_the_search_of_an_earlier_training_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    study = StudyConfig({}, {"first": {}, "again": {"answer.from": "{runs}/variant-first"}})
    config = dataclasses.replace(tiny_config(), study=study)
    cells = expand(config, StudyFolder.of(config))
    finish(cells[1])
    for cell in cells:
        write_json(cell.folder.search_summary, {"seconds": 1.0, "steps": 4})
    refuse_old_ranks(cells)
    write_json(cells[0].folder.search_summary, {"seconds": 2.0, "peak_memory_mib": 5.0, "steps": 4})
    refuse_old_ranks(cells)  # the same search, made again
    write_json(cells[0].folder.search_summary, {"seconds": 2.0, "steps": 5})
    with pytest.raises(UserError, match=rf"^--answer\.from: {cells[1].folder.root} has another search than"):
        refuse_old_ranks(cells)


def test_a_cell_that_started_from_other_components_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    """The table would mix two searches."""
    again = {"method": "lora", "retrain.init": "search", "retrain.init_from": "{runs}/variant-first"}
    config = dataclasses.replace(tiny_config(), study=StudyConfig({}, {"first": {}, "again": again}))
    first, later = cells = expand(config, StudyFolder.of(config))
    write_text(first.folder.search_weights, "old")
    finish(later, source_components=components_digest(later.config))
    refuse_old_ranks(cells)
    write_text(first.folder.search_weights, "new")
    with pytest.raises(UserError, match=rf"^--retrain\.init_from: {later.folder.root} started from other components"):
        refuse_old_ranks(cells)
    first.folder.search_weights.unlink()  # the source was removed, and is trained again
    refuse_old_ranks(cells)


@pytest.mark.trains
def test_a_study_whose_data_changed_trains_no_new_cell_and_goes_on_as_the_message_says(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    data = tmp_path / "train.csv"

    def write(flipped: int) -> None:
        data.write_text("text,label\n" + "".join(f"{word},{(i + flipped) % 2}\n" for i, word in enumerate(WORDS)))

    def go(*methods: str, seeds: int = 1) -> StudyFolder:
        options = ("--task.type", "text", "--task.path", str(data), "--retrain.max_steps", "1")
        config = with_study(tiny_config(*options), {"method": list(methods), "seed": list(range(seeds))})
        run_request(Request(config, "all", False, "study.yaml"), StopRequest())
        return StudyFolder.of(config)

    write(0)
    folder = go("lora")
    write(1)
    refused = r"train\.csv no longer holds the rows with which .*method-lora_seed-0 was made; bring"
    with pytest.raises(UserError, match=refused):
        go("lora", seeds=3)
    with pytest.raises(UserError, match=refused):
        go("lora", "head", "adapter")
    assert [path.parent.name for path in folder.cells_begun] == ["method-lora_seed-0"], "no cell was trained first"
    remove(folder.cells / "method-lora_seed-0")
    go("lora", "head", "adapter")
    lora, head = (json.loads((folder.cells / f"method-{x}_seed-0/metrics.json").read_text()) for x in ("lora", "head"))
    assert lora["data"]["training"] == head["data"]["training"]


@pytest.mark.trains
def test_an_overwrite_whose_data_changed_keeps_the_new_cells_that_have_finished(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """It had set them aside and trained all cells again, on whichever rows the file then held."""
    data = tmp_path / "train.csv"
    options = ("--task.type", "text", "--task.path", str(data), "--retrain.max_steps", "1", "--method", "lora")
    config = with_study(tiny_config(*options), {"seed": [0, 1, 2]})
    growing = StudyFolder.of(config)
    growing = growing.at(growing.root.with_name(f".{growing.root.name}.overwrite"))
    first = growing.cells / "seed-0" / "metrics.json"

    class AfterTheFirst(StopRequest):
        @property
        def code(self) -> int | None:
            return 130 if first.exists() else None

        @code.setter
        def code(self, value: int | None) -> None: ...

    def go(flipped: int, stop: StopRequest) -> None:
        data.write_text("text,label\n" + "".join(f"{word},{(i + flipped) % 2}\n" for i, word in enumerate(WORDS)))
        run_request(Request(config, "all", True, "study.yaml"), stop)

    with pytest.raises(Interrupted):
        go(0, AfterTheFirst())
    finished = first.read_bytes()
    with pytest.raises(UserError, match=r"train\.csv no longer holds the rows with which .*seed-0 was made; bring"):
        go(1, StopRequest())
    assert first.read_bytes() == finished
    assert [path.parent.name for path in growing.cells_begun] == ["seed-0"], "nothing more is trained"


def test_a_source_that_cannot_be_read_is_left_to_the_check_of_damaged_cells(
    tiny_config: Callable[..., RunConfig],
) -> None:
    """One damaged file had stopped the whole study."""
    read = {"lora.ranks_from": "{runs}/variant-first/ranks.json", "method": "lora_shuffled"}
    study = StudyConfig({}, {"first": {}, "again": {"answer.from": "{runs}/variant-first"}, "shuffled": read})
    config = dataclasses.replace(tiny_config(), study=study)
    first, again, shuffled = cells = expand(config, StudyFolder.of(config))
    finish(again)
    finish(shuffled, source_ranks={"k": 3})
    write_json(again.folder.search_summary, {"steps": 4})
    for path in (first.folder.ranks, first.folder.search_summary):
        write_text(path, "{")
    refuse_old_ranks(cells)
