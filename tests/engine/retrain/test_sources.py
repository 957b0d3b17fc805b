"""What a run reads is not among the results that it writes anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.retrain.sources import ranks_from, refuse_missing_ranks, refuse_own_sources
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages

SHUFFLED = ("--method", "lora_shuffled", "--lora.ranks_from")
TEXT = ("--task.type", "text")


def ask(config: RunConfig, stage: Any = "all", *, overwrite: bool = False) -> None:
    refuse_own_sources(Asked(config, RunFolder.of(config), stage, overwrite))


REFUSED = {
    "ranks by their folder": ("lora.ranks_from", (*SHUFFLED, "{root}")),
    "ranks": ("lora.ranks_from", (*SHUFFLED, "{root}/ranks.json")),
    "ranks by placeholder": ("lora.ranks_from", (*SHUFFLED, "{{runs}}/tiny/ranks.json")),
    "ranks of a control": ("lora.ranks_from", ("--method", "lora_random", "--lora.ranks_from", "{root}/ranks.json")),
    "a merged model": ("model.name", ("--model.name", "{root}/merged")),
    "a chat template": (
        "task.chat_template",
        ("--task.type", "chat", "--task.path", "a.jsonl", "--task.chat_template", "{root}/adapter/x.jinja"),
    ),
    "rows": ("task.path", (*TEXT, "--task.path", "{root}/search/rows.csv")),
    "rows a detour away": ("task.path", (*TEXT, "--task.path", "{root}/../tiny/search")),
    "rows behind a link": ("task.path", (*TEXT, "--task.path", "{link}/retrain/rows.csv")),
    "validation rows": (
        "task.validation_path", (*TEXT, "--task.path", "a.csv", "--task.validation_path", "{root}/predictions.txt"),
    ),
    "test rows": (
        "task.test_path",
        (*TEXT, "--task.path", "a.csv", "--task.validation_path", "b.csv", "--task.test_path", "{root}/trials/x.csv"),
    ),
}  # fmt: skip


def filled(arguments: tuple[str, ...], tmp_path: Path) -> list[str]:
    (tmp_path / "runs" / "tiny").mkdir(parents=True, exist_ok=True)
    link = tmp_path / "link"
    if not link.exists():
        link.symlink_to(tmp_path / "runs" / "tiny")
    return [argument.format(root=tmp_path / "runs" / "tiny", link=link) for argument in arguments]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_and_written_is_refused_by_its_key(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, case: str, overwrite: bool
) -> None:
    key, arguments = REFUSED[case]
    with pytest.raises(UserError, match=rf"^--{key}: .* among the results .* another --name$") as caught:
        ask(tiny_config(*filled(arguments, tmp_path)), overwrite=overwrite)
    assert "--overwrite" not in str(caught.value)


def test_a_retraining_does_not_shuffle_its_own_ranks_again(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    own = filled((*SHUFFLED, "{root}/ranks.json"), tmp_path)
    with pytest.raises(UserError, match=r"^--lora\.ranks_from: .* among the results"):
        ask(tiny_config(*own), "retrain")


TAKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "another run's": ("all", (*SHUFFLED, "{root}-2/ranks.json")),
    "the user's own file in the folder": ("all", (*TEXT, "--task.path", "{root}/rows.csv")),
    "a key that the method does not read": ("all", ("--lora.ranks_from", "{root}/ranks.json")),
    "what the stage keeps": ("retrain", (*TEXT, "--task.path", "{root}/search/rows.csv")),
    "a report": ("report", ("--model.name", "{root}/merged")),
    "the model of the tests": ("all", ()),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_stays_may_be_read(tiny_config: Callable[..., RunConfig], tmp_path: Path, case: str) -> None:
    stage, arguments = TAKEN[case]
    ask(tiny_config(*filled(arguments, tmp_path)), stage, overwrite=True)


def test_the_file_of_ranks_may_stand_for_each_cell_of_a_study(tiny_config: Callable[..., RunConfig]) -> None:
    given = "{runs}/seed-{seed}_name-{task}/ranks.json"
    config = tiny_config("--method", "lora_shuffled", "--lora.ranks_from", given, "--seed", "7")
    assert ranks_from(config) == Path(config.runs_folder) / "seed-7_name-sample" / "ranks.json"


def test_a_home_may_be_written_short(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--method", "lora_shuffled", "--lora.ranks_from", "~/ranks.json")
    assert ranks_from(config) == Path.home() / "ranks.json"


def test_the_folder_of_a_run_stands_for_its_ranks(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """It had been taken, and failed after the model was loaded, as "not readable as JSON (Is a directory)"."""
    (tmp_path / "c1").mkdir()
    config = tiny_config("--method", "lora_shuffled", "--lora.ranks_from", str(tmp_path / "c1"))
    assert ranks_from(config) == tmp_path / "c1" / "ranks.json"


@pytest.mark.parametrize("given", ["c1", "c1/ranks.json"])
def test_ranks_that_are_not_there_are_refused_before_the_model_is_loaded(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, given: str
) -> None:
    (tmp_path / "c1").mkdir()
    config = tiny_config("--method", "lora_ranks", "--lora.ranks_from", str(tmp_path / given))
    with pytest.raises(UserError, match=r"^--lora\.ranks_from: .*/c1/ranks\.json does not exist; allowed: a ranks"):
        run_stages(Request(config, "all", False, "x"), StopRequest())
    (tmp_path / "c1" / "ranks.json").touch()
    refuse_missing_ranks(Asked(config, RunFolder.of(config)))
