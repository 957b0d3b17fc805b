"""A finished run is refused unless --overwrite is given, which clears what its stage wrote and nothing else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from configs.requests import Request
from configs.schema import RunConfig
from engine.run import opening
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.run.opening import Asked, nothing_left_when_refused
from engine.stages import run_stages
from tests.helpers.run_folders import WHOLE, names

REFUSALS = (
    opening.refuse_study, opening.refuse_search_without_one, opening.refuse_finished, opening.refuse_without_ranks,
)  # fmt: skip


def open_folder(config: RunConfig, stage: Any, *, overwrite: bool) -> RunFolder:
    """The folder, after this room's own refusals."""
    return opening.open_folder(Asked(config, RunFolder.of(config), stage, overwrite), REFUSALS)


@pytest.mark.trains
@pytest.mark.parametrize("stage", ["all", "search", "retrain"])
def test_a_finished_stage_is_refused(finished: tuple[RunConfig, RunFolder], stage: Any) -> None:
    config, folder = finished
    with pytest.raises(UserError, match=r"^--name: .*already holds a finished run; --overwrite replaces it"):
        open_folder(config, stage, overwrite=False)
    assert names(folder) == WHOLE


@pytest.mark.trains
@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("all", {"config.yaml"}),
        ("search", {"config.yaml"}),  # what was retrained at the ranks of before goes with them
        ("retrain", {"config.yaml", "search", "ranks.json"}),
        ("report", {"config.yaml", "search", "ranks.json", "adapter", "metrics.json"}),
    ],
)
def test_overwrite_clears_what_the_stage_wrote_and_nothing_else(
    finished: tuple[RunConfig, RunFolder], stage: Any, kept: set[str]
) -> None:
    config, folder = finished
    for path in (folder.retrain, folder.merged, folder.padded):
        path.mkdir()
    (folder.root / "my notes.txt").write_text("mine")
    open_folder(config, stage, overwrite=True)
    retrained = {"retrain", "merged", "adapter_padded"} if stage == "report" else set()
    assert names(folder) == kept | retrained | {"my notes.txt"}


@pytest.mark.parametrize("stage", ["retrain", "report"])
def test_a_stage_without_its_input_is_refused_and_makes_no_folder(
    tiny_config: Callable[..., RunConfig], stage: Any
) -> None:
    config = tiny_config()
    with pytest.raises(UserError, match=rf"^--stage {stage}: .*ranks\.json does not exist; --stage search writes it"):
        open_folder(config, stage, overwrite=False)
    assert not Path(config.runs_folder).exists()


def test_a_folder_that_cannot_be_written_is_named(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(tiny_config(), runs_folder=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^--runs_folder: cannot write .*file/tiny \(Not a directory\)"):
        open_folder(config, "all", overwrite=False)


def test_a_refused_run_leaves_no_name_of_a_wandb_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def refused() -> None:
        with nothing_left_when_refused(folder):
            folder.wandb_id.write_text("abc")
            raise UserError("refused")

    with pytest.raises(UserError):
        refused()
    assert not folder.wandb_id.exists()


@pytest.mark.trains
def test_refusals_are_asked_in_their_order_before_anything_is_cleared(finished: tuple[RunConfig, RunFolder]) -> None:
    config, folder = finished
    told: list[str] = []

    def second(asked: Asked) -> None:
        raise UserError("refused")

    asked = Asked(config, folder, "all", overwrite=True)
    with pytest.raises(UserError, match=r"^refused$"):
        opening.open_folder(asked, (lambda _: told.append("first"), second, lambda _: told.append("third")))
    assert told == ["first"]
    assert names(folder) == WHOLE


@pytest.mark.trains
@pytest.mark.parametrize(("stage", "overwrite", "stands"), [
    ("all", False, {"config", "ranks", "search_summary", "metrics"}),
    ("all", True, {"config"}),
    ("retrain", True, {"config", "ranks", "search_summary"}),
    ("report", True, {"config", "ranks", "search_summary", "metrics"}),
])  # fmt: skip
def test_what_stands_is_what_an_overwrite_does_not_clear(
    finished: tuple[RunConfig, RunFolder], stage: Any, overwrite: bool, stands: set[str]
) -> None:
    config, folder = finished
    asked = Asked(config, folder, stage, overwrite)
    paths = ("config", "ranks", "search_summary", "metrics", "sweep")
    assert {name for name in paths if asked.stands(getattr(folder, name))} == stands


@pytest.mark.parametrize("name", ["cells", "results.parquet"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_single_run_in_the_folder_of_a_study_is_refused(
    tiny_config: Callable[..., RunConfig], name: str, overwrite: bool
) -> None:
    config = tiny_config()
    (RunFolder.of(config).root / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"^--name: .*tiny holds a study; name the run otherwise"):
        open_folder(config, "all", overwrite=overwrite)


def test_a_method_without_a_search_has_no_stage_search(tiny_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match=r"^--stage: 'search' is not allowed for --method lora, which has none"):
        open_folder(tiny_config("--method", "lora"), "search", overwrite=False)


MISPLACED = {"search": b"", "adapter": b"", "retrain": b"", "figures": b"", "wandb": b"", "metrics.json": None}


@pytest.mark.parametrize("name", MISPLACED)
def test_a_file_where_a_folder_belongs_is_refused_before_anything_is_written(
    tiny_config: Callable[..., RunConfig], name: str
) -> None:
    config = tiny_config()
    path = RunFolder.of(config).root / name
    path.parent.mkdir(parents=True)
    path.touch() if MISPLACED[name] is not None else path.mkdir()
    kind = "file" if MISPLACED[name] is None else "folder"
    for stage in ("all", "search", "retrain", "report"):
        with pytest.raises(UserError, match=rf"^{path}: a {kind} belongs there.*move it, or give another --name$"):
            run_stages(Request(config, stage, False, "x"), StopRequest())  # type: ignore[arg-type]
    assert names(RunFolder.of(config)) == {name}


@pytest.mark.parametrize("place", ["runs", "runs/tiny"])
def test_a_file_in_the_place_of_the_runs_is_one_line(tiny_config: Callable[..., RunConfig], place: str) -> None:
    config = tiny_config()
    path = Path(config.runs_folder).parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UserError, match=rf"^--runs_folder: cannot write {RunFolder.of(config).root} \("):
        run_stages(Request(config, "all", False, "x"), StopRequest())
    assert path.read_text() == "mine"
