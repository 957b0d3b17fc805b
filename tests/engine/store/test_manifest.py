"""What makes two manifests differ, in the words of a refusal."""

from pathlib import Path

import pytest

from autolora.engine.disk.files import write_text
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import (
    VERSION,
    Changed,
    Manifest,
    Stage,
    end,
    forget,
    recorded_in,
)
from autolora.engine.store.plan import names_of, settings_of
from tests.helpers.command import parse


def stage(root: Path, name: str, *words: str) -> Stage:
    return Stage.of(name, parse(list(words)).config, RunFolder(root))


def begun(root: Path, name: str, *words: str, **known: object) -> None:
    stage(root, name, *words).begin(known, {}, {}, {})


def test_a_key_of_cost_or_of_another_stage_is_no_input(tmp_path: Path) -> None:
    begun(tmp_path, "search", "--search.checkpoint_every", "7")
    for words in (
        ("--search.checkpoint_every", "9"),
        ("--task.evaluation_rows", "3"),
        ("--retrain.max_steps", "3"),
    ):
        stage(tmp_path, "search", *words).check_settings()


def test_a_key_that_one_side_lacks_differs(tmp_path: Path) -> None:
    """With common keys alone a search by darts was one by first_order."""
    begun(tmp_path, "search", "--hypergradient.type", "darts")
    path = tmp_path / "search" / "manifest.json"
    found = Manifest.model_validate_json(path.read_text())
    assert found is not None
    fewer = {key: value for key, value in found.settings.items() if key != "seed"}
    for settings in (found.settings | {"search.more": 1}, fewer):
        write_text(path, found.model_copy(update={"settings": settings}).model_dump_json())
        with pytest.raises(
            Changed,
            match=r"is half done with --(search\.more 1, now it is null|seed null, now it is)",
        ):
            stage(tmp_path, "search", "--hypergradient.type", "darts").check_settings()


def test_another_version_of_a_manifest_is_refused(tmp_path: Path) -> None:
    """The same settings then meant another result."""
    begun(tmp_path, "search")
    path = tmp_path / "search" / "manifest.json"
    write_text(path, path.read_text().replace(f'"version": {VERSION}', '"version": 0'))
    with pytest.raises(Changed, match="version 0 of the program"):
        stage(tmp_path, "search").check_settings()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("search", ("--precision", "bf16")),
        ("search", ("--method", "lora")),
        ("retrain", ("--precision", "bf16")),
        ("retrain", ("--model.dtype", "bf16")),
        ("evaluate", ("--task.evaluation_rows", "3")),
    ],
)
def test_what_changes_a_result_is_an_input(name: str, words: tuple[str, ...]) -> None:
    one, other = (parse(list(given)).config for given in ((), words))
    assert settings_of(one, name) != settings_of(other, name)


def test_another_budget_is_an_input_of_the_choice_alone(tmp_path: Path) -> None:
    one, other = (parse(["--choose.budget", value]).config for value in ("1", "2"))
    differ = [
        name
        for name in ("search", "measure", "choose", "retrain", "evaluate")
        if settings_of(one, name) != settings_of(other, name)
    ]
    assert differ == ["choose"]


def test_a_file_is_known_by_its_content_and_a_name_of_the_hub_as_it_is(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\nx,y\n")
    one, other = (
        names_of(parse(["--task.path", str(tmp_path / name)]).config) for name in ("a.csv", "b.csv")
    )
    assert one == other
    (tmp_path / "b.csv").write_text("text,label\nx,z\n")
    assert names_of(parse(["--task.path", str(tmp_path / "b.csv")]).config) != one
    assert names_of(parse(["--task.path", "org/rows"]).config)["task.path"] == "org/rows"


def test_a_stage_writes_down_its_files_once_it_is_finished(tmp_path: Path) -> None:
    begun(tmp_path, "retrain")
    folder = RunFolder(tmp_path)
    write_text(folder.adapter / "adapter_config.json", "{}")
    write_text(folder.adapter / "README.md", "the card")
    write_text(tmp_path / "notes.txt", "mine")
    end(stage(tmp_path, "retrain"))
    assert recorded_in(folder, "retrain").files == {}, "it is half done"
    write_text(folder.trained, "{}")
    end(stage(tmp_path, "retrain"))
    files = ["adapter/adapter_config.json", "retrain/summary.json"]
    assert list(recorded_in(folder, "retrain").files) == files


def test_what_is_removed_on_purpose_is_not_asked_for(tmp_path: Path) -> None:
    """As a verdict does, which keeps only the numbers of its trainings."""
    begun(tmp_path, "retrain")
    folder = RunFolder(tmp_path)
    write_text(folder.adapter / "adapter_config.json", "{}")
    write_text(folder.trained, "{}")
    end(stage(tmp_path, "retrain"))
    (folder.adapter / "adapter_config.json").unlink()
    with pytest.raises(Changed, match=r"adapter_config\.json is missing since the stage retrain"):
        stage(tmp_path, "retrain").check_files()
    forget(folder, "retrain", folder.adapter)
    stage(tmp_path, "retrain").check_files()
    write_text(folder.trained, "{ }")
    with pytest.raises(Changed, match=r"summary\.json was edited"):
        stage(tmp_path, "retrain").check_files()


def test_a_stage_that_begins_again_keeps_with_what_it_was_made(
    tmp_path: Path, log_lines: list[str]
) -> None:
    """A resumed stage ends at other numbers on another device, and says so."""
    for device in ("cuda", "cpu"):
        stage(tmp_path, "search").begin({}, {}, {"device": device}, {})
    manifest = recorded_in(RunFolder(tmp_path), "search")
    assert manifest is not None
    assert manifest.made == {"device": "cuda"}
    assert [line for line in log_lines if "began with {'device': 'cuda'}" in line]


def test_trials_that_grow_are_no_end(tmp_path: Path) -> None:
    """A sweep that was stopped after its first trial goes on with the file."""
    begun(tmp_path, "sweep")
    folder = RunFolder(tmp_path)
    write_text(folder.sweep_trials, "{}")
    end(stage(tmp_path, "sweep"))
    write_text(folder.sweep_trials, '{"trials": []}')
    stage(tmp_path, "sweep").check_files()
