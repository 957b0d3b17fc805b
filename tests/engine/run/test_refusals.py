"""A finished run is refused unless --overwrite is given; every refusal comes before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run import refusals
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.refusals import refuse_finished, refuse_missing_files
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


def asked(root: Path, *arguments: str, stage: Any = "all", overwrite: bool = False) -> Asked:
    config = parse(["--runs_folder", str(root), "--name", "a", *arguments]).config
    return Asked(config, RunFolder.of(config), stage, overwrite)


FILES = {
    "training rows": (("--task.type", "text", "--task.path", "{}/no.csv"), "--task.path"),
    "chats": (("--task.type", "chat", "--task.path", "{}/no.jsonl"), "--task.path"),
    "rows to evaluate on": (
        ("--task.type", "text", "--task.path", "{}/yes.csv", "--task.validation_path", "{}/no.csv"),
        "--task.validation_path",
    ),
    "test rows": (
        ("--task.type", "text", "--task.path", "{}/yes.csv", "--task.test_path", "{}/no.csv"), "--task.test_path",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        ("text", "", ".csv, .tsv, .jsonl, .parquet"),
        ("text", "yes.xlsx", ".csv, .tsv, .jsonl, .parquet"),
        ("generation", "", ".csv, .tsv, .jsonl, .parquet"),
        ("tokens", "yes.csv", ".conll, .iob2, .tsv, .txt, .jsonl, .parquet"),
        ("chat", "yes.txt", ".jsonl, .json, .parquet, .csv, .tsv"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_endings_that_can(
    tmp_path: Path, kind: str, name: str, allowed: str
) -> None:
    for file in ("yes.csv", "yes.xlsx", "yes.txt", "yes.jsonl"):
        (tmp_path / file).write_text("")
    given, option = ("--task.type", kind, "--task.path"), "--task.path"
    for paths in ((f"{tmp_path}/{name}",), (f"{tmp_path}/yes.jsonl", "--task.validation_path", f"{tmp_path}/{name}")):
        option = "--task.validation_path" if len(paths) > 1 else "--task.path"
        with pytest.raises(UserError) as caught:
            refuse_missing_files(asked(tmp_path, *given, *paths))
        assert str(caught.value) == (
            f"{option}: '{tmp_path}/{name}' is not allowed; allowed: a file that ends in {allowed}"
        )


@pytest.mark.parametrize(
    ("kind", "path"), [("tokens", "{}"), ("chat", "{}"), ("tokens", "org/data"), ("chat", "data")]
)
def test_a_folder_and_a_data_set_of_the_hub_are_left_to_the_reading(tmp_path: Path, kind: str, path: str) -> None:
    refuse_missing_files(asked(tmp_path, "--task.type", kind, "--task.path", path.format(tmp_path)))


@pytest.mark.parametrize("case", FILES)
def test_a_missing_file_is_named_with_its_option(tmp_path: Path, case: str) -> None:
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    arguments, option = FILES[case]
    arguments = tuple(word.format(tmp_path) for word in arguments)
    with pytest.raises(UserError, match=rf"^{option}: no file '.*no\.(csv|jsonl)'$"):
        refuse_missing_files(asked(tmp_path, *arguments))
    refuse_missing_files(asked(tmp_path, *arguments, stage="report"))
    write_json(tmp_path / "a" / "metrics.json", {})
    refuse_missing_files(asked(tmp_path, *arguments))
    with pytest.raises(UserError, match="no file"):
        refuse_missing_files(asked(tmp_path, *arguments, overwrite=True))


def test_the_file_of_an_approximation_is_asked_for_only_before_its_search(tmp_path: Path) -> None:
    own = ("--hypergradient.type", str(tmp_path / "no.py:Mine"))
    with pytest.raises(UserError, match=r"^--hypergradient\.type: there is no file .*no\.py; allowed: FILE\.py:CLASS"):
        refuse_missing_files(asked(tmp_path, *own))
    refuse_missing_files(asked(tmp_path, *own, stage="retrain"))
    refuse_missing_files(asked(tmp_path, *own, "--method", "lora"))
    write_json(RunFolder(tmp_path / "a").search_summary, {})
    refuse_missing_files(asked(tmp_path, *own))


def test_a_file_in_the_home_of_the_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    text = ("--task.type", "text", "--task.path", "~/yes.csv")
    refuse_missing_files(asked(tmp_path, *text, "--task.test_path", "~/yes.csv"))
    with pytest.raises(UserError, match=r"^--task\.test_path: no file '~/no\.csv'$"):
        refuse_missing_files(asked(tmp_path, *text, "--task.test_path", "~/no.csv"))


def test_a_column_that_a_table_of_texts_lacks_is_told_unless_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,review\n1,a\n")
    text = ("--task.type", "text", "--task.path", f"{tmp_path}/d.csv")
    message = r"^--task\.path: .*d\.csv has no column text, label; it has: id, review$"
    with pytest.raises(UserError, match=message):
        refuse_missing_files(asked(tmp_path, *text))
    refuse_missing_files(asked(tmp_path, *text, stage="report"))
    refuse_missing_files(asked(tmp_path, "--task.type", "generation", *text[2:]))


def test_what_may_be_a_data_set_of_the_hub_is_not_looked_for_here(tmp_path: Path) -> None:
    refuse_missing_files(asked(tmp_path, "--task.type", "chat", "--task.path", "someone/chats"))
    refuse_missing_files(asked(tmp_path, "--task.type", "generation", "--task.name", "e2e"))
    split = ("--task.evaluation_split", "validation", "--task.test_path", "no.csv")
    (tmp_path / "yes.csv").write_text("text,label\na,b\n")
    refuse_missing_files(asked(tmp_path, "--task.type", "text", "--task.path", f"{tmp_path}/yes.csv", *split))
