"""A finished run is refused unless --overwrite is given; every refusal comes before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run import refusals
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.refusals import refuse_finished
from autolora.engine.run.replacing import replacing
from autolora.engine.stages import run_stages
from tests.helpers.run_folders import WHOLE, names

REFUSALS = (
    refusals.refuse_study, refusals.refuse_search_without_one, refusals.refuse_finished, refusals.refuse_without_ranks,
)  # fmt: skip


def ask(config: RunConfig, stage: Any, *, overwrite: bool) -> None:
    """Raises UserError when a refusal of engine/run/refusals.py does."""
    for refuse in REFUSALS:
        refuse(Asked(config, RunFolder.of(config), stage, overwrite))


@pytest.mark.trains
@pytest.mark.parametrize("stage", ["all", "search", "retrain"])
def test_a_finished_stage_is_refused(finished: tuple[RunConfig, RunFolder], stage: Any) -> None:
    config, folder = finished
    what = "search" if stage == "search" else "run"
    with pytest.raises(UserError, match=rf"^--name: .*already holds a finished {what}; --overwrite replaces it"):
        ask(config, stage, overwrite=False)
    assert names(folder) == WHOLE


@pytest.mark.trains
def test_the_refusal_of_a_finished_run_tells_of_half_done_new_results(finished: tuple[RunConfig, RunFolder]) -> None:
    config, folder = finished
    growing = folder.root.with_name(".tiny.overwrite")
    growing.mkdir()
    (growing / "config.yaml").touch()
    with pytest.raises(UserError, match=rf"--overwrite replaces it \(and resumes .* in {growing}\), --name starts"):
        ask(config, "all", overwrite=False)


@pytest.mark.parametrize("stage", ["retrain", "report"])
def test_a_stage_without_its_input_is_refused_and_makes_no_folder(
    tiny_config: Callable[..., RunConfig], stage: Any
) -> None:
    config = tiny_config()
    with pytest.raises(UserError, match=rf"^--stage {stage}: .*ranks\.json does not exist; --stage search writes it"):
        ask(config, stage, overwrite=False)
    assert not Path(config.runs_folder).exists()


@pytest.mark.parametrize("name", ["cells", "results.parquet"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_single_run_in_the_folder_of_a_study_is_refused(
    tiny_config: Callable[..., RunConfig], name: str, overwrite: bool
) -> None:
    config = tiny_config()
    (RunFolder.of(config).root / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"^--name: .*tiny holds a study; give the run another name"):
        ask(config, "all", overwrite=overwrite)


def test_a_method_without_a_search_has_no_stage_search(tiny_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match=r"^--stage: 'search' is not allowed for --method lora, which does not search"):
        ask(tiny_config("--method", "lora"), "search", overwrite=False)


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
        with pytest.raises(
            UserError, match=rf"^{path}: must be a {kind}, but is something else; move it, or give another --name$"
        ):
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


@pytest.mark.parametrize(
    ("stage", "made", "lost"),
    [
        ("search", (), ""),
        ("search", ("adapter",), "its adapter and result"),
        ("search", ("adapter", "verdict"), "its adapter, result and verdict"),
        ("all", ("adapter",), ""),
        ("all", ("adapter", "verdict"), "its verdict"),
        ("retrain", ("adapter", "verdict"), ""),
    ],
)
def test_what_an_overwrite_removes_without_writing_it_again_is_named_before_and_when_it_begins(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], stage: Any, made: tuple[str, ...], lost: str
) -> None:
    """A search of a run whose verdict took hours was replaced without a word about the verdict."""
    config = tiny_config()
    folder = RunFolder.of(config)
    for name in made:
        (folder.root / name).mkdir(parents=True)
    for path in (folder.ranks, folder.report, *([folder.metrics] if made else [])):
        write_json(path, {})
    with pytest.raises(UserError, match="already holds") as refused:
        refuse_finished(Asked(config, folder, stage))
    wanted = f"replaces it, and removes {lost}, --name starts another and keeps this one as it is, " if lost else ""
    assert (wanted or "replaces it, --name starts another, --stage report") in str(refused.value)
    with replacing(Asked(config, folder, stage, overwrite=True), ()):
        pass
    (begins,) = (line for line in log_lines if "writing the new results" in line)
    assert begins.endswith(f"until they are complete, and then loses {lost}" if lost else "until they are complete")


def test_a_run_that_lacks_only_its_report_is_not_refused(tiny_config: Callable[..., RunConfig]) -> None:
    """As a kill between the result and the report leaves it: the same command draws the report."""
    config = tiny_config()
    folder = RunFolder.of(config)
    for path in (folder.metrics, folder.ranks):
        write_json(path, {})
    for stage in ("all", "search", "retrain"):
        refuse_finished(Asked(config, folder, stage))  # type: ignore[arg-type]
