"""Which earlier pairs a verdict keeps, and in which words it refuses the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.requests import Given, Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.settings import RETRAINING
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resuming import Outdated
from autolora.engine.search.settings import FOUND
from autolora.engine.verdict.again import refuse_other_model, refuse_other_rows, tell_ignored, tell_other_retraining
from autolora.engine.verdict.arms import seed_of_pair
from autolora.engine.verdict.stage import run_verdict
from tests.helpers.finished import RESULT
from tests.helpers.methods import LEARNED
from tests.helpers.tiny import make_tokenizer
from tests.helpers.verdicts import NAMES, SIZE, FakeLauncher, better


@pytest.mark.trains
def test_other_ranks_and_other_settings_are_refused_until_all_is_trained_again(verdict: Callable[..., Any]) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    with pytest.raises(UserError, match="these are not the ranks that the pairs"):
        verdict(FakeLauncher(better(0.3)), ranks=LEARNED[::-1])
    with pytest.raises(UserError, match=r"^--retrain.learning_rate: .* --overwrite to train every pair again"):
        verdict(FakeLauncher(better(0.3)), "--retrain.learning_rate", "0.5")
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, "--retrain.learning_rate", "0.5", ranks=LEARNED[::-1], overwrite=True)
    assert found["ending"] == "matter"
    assert len(launcher.trained) == 18


@pytest.mark.trains
def test_an_overwrite_that_was_stopped_resumes_and_begins_again_only_after_its_end(
    verdict: Callable[..., Any],
) -> None:
    verdict(FakeLauncher(better(0.3)))
    verdict(FakeLauncher(better(0.3), stop_after=7), overwrite=True)
    launcher = FakeLauncher(better(0.3))
    assert verdict(launcher, overwrite=True)[0]["ending"] == "matter"
    assert len(launcher.trained) == 18 - 7
    again = FakeLauncher(better(0.3))
    verdict(again, overwrite=True)
    assert len(again.trained) == 18


@pytest.mark.trains
def test_a_base_model_that_changed_since_the_search_is_refused(verdict: Callable[..., Any]) -> None:
    launcher, rows = FakeLauncher(better(0.3), base="new"), {"rows": 1, "sha256": "x"}
    data = {"classes": ["a", "b"], "training": rows, "evaluation_rows": None, "evaluation": {}, "weights": "old"}
    with pytest.raises(Outdated, match=r"^--model\.name: .* no longer has the weights with which the search in"):
        verdict(launcher, searched={"data": data})
    assert len(launcher.trained) == 4, "the first pair and the heads tell"
    verdict(FakeLauncher(better(0.3), base="old"), "--name", "same", searched={"data": data})


@pytest.mark.trains
def test_another_base_model_under_the_same_name_is_refused_until_all_is_trained_again(
    verdict: Callable[..., Any],
) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    launcher = FakeLauncher(better(0.3), base="others")
    with pytest.raises(UserError, match=r"^--model.name: .* no longer has the weights with which .*head-1 was"):
        verdict(launcher)
    assert len(launcher.trained) == 1, "a training on other weights ends the command"
    again = FakeLauncher(better(0.3), base="others")
    assert verdict(again, overwrite=True)[0]["ending"] == "matter"
    assert len(again.trained) == 18


def fingerprint(rows: str) -> dict[str, Any]:
    evaluated = {"test": {"rows": 40, "sha256": rows}}
    training = {"rows": 64, "sha256": "x"}
    return {"classes": ["a", "b"], "training": training, "evaluation_rows": 40, "evaluation": evaluated}


@pytest.mark.trains
def test_rows_that_change_during_a_verdict_are_refused(verdict: Callable[..., Any]) -> None:
    """Of a classifier, two sets of equally many rows have the same weights, so that only the fingerprint differs."""

    class Edited(FakeLauncher):
        def write(self, config: RunConfig, loss: float) -> None:
            self.data = fingerprint("new" if str(config.name).endswith("02-shuffled") else "old")
            super().write(config, loss)

    with pytest.raises(Outdated, match=r"^--task: the rows have changed since .*head-1 was trained; .*02-shuffled"):
        verdict(Edited(better(0.3)))
    assert verdict(FakeLauncher(better(0.3), data=fingerprint("new")), overwrite=True)[0]["ending"] == "matter"


CHANGED = {
    "--verdict.rows": ("5", "trained with 4000, now it is 5"),
    "--verdict.shuffle": ("type", "trained with 'size', now it is 'type'"),
    "--task.train_rows": ("9", "trained with 64, now it is 9"),
}


@pytest.mark.trains
@pytest.mark.parametrize("key", CHANGED)
def test_a_changed_setting_is_named_as_it_was_given(key: str, verdict: Callable[..., Any]) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    value, message = CHANGED[key]
    with pytest.raises(UserError, match=rf"^{key}: the pairs in .*/verdict were {message}; give the old value, or"):
        verdict(FakeLauncher(better(0.3)), key, value)


@pytest.mark.trains
def test_a_run_that_was_moved_or_is_named_otherwise_goes_on(verdict: Callable[..., Any], tmp_path: Path) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, "--runs_folder", f"{tmp_path}/../{tmp_path.name}/elsewhere")
    assert (found["ending"], len(launcher.trained)) == ("matter", 18 - 7)


SEARCHED_ON = {
    "--seed": ("3", "the rows of seed 0, now it is 3", ("--task.seed", "0")),
    "--task.seed": ("3", "the rows of seed 0, now it is 3", ("--task.seed", "0")),
    "--task.train_rows": ("9", "64, now it is 9", ("--task.train_rows", "64")),
}


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("by_grid", [False, True])
@pytest.mark.parametrize("key", SEARCHED_ON)
def test_rows_that_chose_the_ranks_do_not_judge_them(
    key: str, by_grid: bool, verdict: Callable[..., Any], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    settings = {"settings": FOUND.of(tiny_config())}
    if by_grid:
        sizes = {"parameters_per_rank": dict.fromkeys(NAMES, SIZE)}
        write_json(tmp_path / "runs" / "tiny" / "grid.json", sizes | settings)
    searched = None if by_grid else settings
    value, message, old = SEARCHED_ON[key]
    launcher = FakeLauncher(better(0.3))
    with pytest.raises(UserError, match=rf"^{key}: .*ranks.json were chosen with {message}; the verdict needs rows"):
        verdict(launcher, key, value, searched=searched)
    assert not launcher.trained
    assert verdict(launcher, key, value, *old, searched=searched)[0]["ending"] == "matter"


@pytest.mark.parametrize(
    ("key", "value"),
    [("--task.holdout_share", "0.3"), ("--task.evaluation_split", "test"), ("--task.validation_path", "x.csv")],
)
def test_what_chooses_the_rows_that_judge_is_that_of_the_search(
    tiny_config: Callable[..., RunConfig], key: str, value: str
) -> None:
    table = ("--task.type", "text", "--task.path", "y.csv")
    if key == "--task.evaluation_split":
        table = (*table, "--task.test_path", "z.csv", key, "validation")
    folder = RunFolder.of(tiny_config())
    write_json(folder.ranks, {})
    write_json(folder.search_summary, {"parameters_per_rank": {}, "settings": FOUND.of(tiny_config(*table))})
    refuse_other_rows(tiny_config(*table), folder)
    with pytest.raises(UserError, match=rf"^{key}: the ranks in .* were chosen with .*; the verdict needs rows"):
        refuse_other_rows(tiny_config(*table, key, value), folder)


WORDS = sorted(word for word in make_tokenizer().get_vocab() if word.isalpha())[:12]
TEXTS = [f"{first} {second}" for first in WORDS[:10] for second in WORDS]
"""Each other words that the tiny tokenizer knows."""
ROWS_OF_ALL = ("--retrain.row_losses", "true", "--task.unused_rows", "40")


def write_table(folder: Path, edited: str = "") -> tuple[str, ...]:
    """The options of a run on these texts, one of which is edited. 24 are evaluated, 40 are for the search, 40 more
    judge, and 16 are not read."""
    lines = [f"{text + ' ' + WORDS[0] * (text == edited)},{number % 2}\n" for number, text in enumerate(TEXTS)]
    path = folder / "own.csv"
    path.write_text("text,label\n" + "".join(lines))
    options = ("--task.type", "text", "--task.train_rows", "40", "--task.holdout_share", "0.2", "--verdict.rows", "40")
    return (*options, "--task.path", str(path))


def first_text(run: Context, rows: Any) -> str:
    found: str = run.tokenizer.decode(rows["input_ids"][0], skip_special_tokens=True)
    return found


@pytest.mark.trains
def test_a_table_edited_after_the_search_is_refused(
    verdict: Callable[..., Any], tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    asked = write_table(tmp_path)
    run, launcher = run_of(tiny_config(*asked)), FakeLauncher(better(0.3))
    searched = {"data": run.fingerprint}
    write_table(tmp_path, edited=first_text(run, run.data.train))
    with pytest.raises(UserError, match=r"own.csv no longer gives the training rows that the ranks in .* were chosen"):
        verdict(launcher, *asked, searched=searched, data=True)
    assert not launcher.trained
    with pytest.raises(UserError, match=r"own.csv no longer gives the training rows that the ranks in .* were chosen"):
        verdict(launcher, *asked, searched=searched, data=True, overwrite=True)
    write_table(tmp_path)
    assert verdict(launcher, *asked, searched=searched, data=True)[0]["ending"] == "matter"


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["validation", "unused training"])
def test_rows_edited_between_two_pairs_are_refused_until_all_is_trained_again(
    kind: str, verdict: Callable[..., Any], tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context],
    tmp_path: Path,
) -> None:  # fmt: skip
    asked = write_table(tmp_path)
    verdict(FakeLauncher(better(0.3), stop_after=7), *asked, data=True)
    run = run_of(tiny_config(*asked, *ROWS_OF_ALL))
    rows = run.data.evaluation["validation"] if kind == "validation" else run.data.unused
    write_table(tmp_path, edited=first_text(run, rows))
    with pytest.raises(UserError, match=rf"own.csv no longer gives the {kind} rows that the pairs in"):
        verdict(FakeLauncher(better(0.3)), *asked, data=True)
    launcher = FakeLauncher(better(0.3))
    assert verdict(launcher, *asked, overwrite=True, data=True)[0]["ending"] == "matter"
    assert len(launcher.trained) == 18


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("content", ["", "[]", '{"classes": 1}'])
def test_a_damaged_record_of_the_rows_is_named(content: str, verdict: Callable[..., Any], tmp_path: Path) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7), data=True)
    path = tmp_path / "runs" / "tiny" / "verdict" / "data.json"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"^{path}: .*"):
        verdict(FakeLauncher(better(0.3)), data=True)


@pytest.mark.trains
def test_an_unfinished_training_under_other_settings_is_refused_until_all_is_trained_again(
    verdict: Callable[..., Any],
) -> None:
    """Its resumption was refused within the training, and neither the old value nor --overwrite helped."""
    _, folder = verdict(FakeLauncher(better(0.3), stop_after=3))
    begun = RunFolder(folder.verdict / "cells" / "pair-02-learned")
    done = json.loads((folder.verdict / "cells" / "pair-01-learned" / "metrics.json").read_text())["settings"]
    settings = done | {"seed": seed_of_pair(0, 2), "retrain.learning_rate": 0.007}
    write_json(checkpoint.place(begun.retrain, 1) / checkpoint._SEAL, {"settings": settings})
    with pytest.raises(
        UserError, match=r"^--retrain.learning_rate: the pairs in .* with 0\.007, .* --overwrite to train"
    ):
        verdict(FakeLauncher(better(0.3)))
    launcher = FakeLauncher(better(0.3))
    verdict(launcher, overwrite=True)
    assert len(launcher.trained) == 18
    assert not begun.retrain.exists()


@pytest.mark.parametrize("chosen_by", ["a search", "trials"])
@pytest.mark.parametrize(("key", "value"), [("--model.name", "org/other"), ("--lora.target_modules", "[query]")])
def test_other_weights_or_layers_than_those_of_the_search_are_refused(
    tiny_config: Callable[..., RunConfig], key: str, value: str, chosen_by: str
) -> None:
    folder = RunFolder.of(tiny_config())
    write_json(folder.ranks, {})
    place = folder.search_summary if chosen_by == "a search" else folder.grid
    write_json(place, {"parameters_per_rank": {}, "settings": FOUND.of(tiny_config())})
    refuse_other_model(tiny_config(), folder)
    with pytest.raises(UserError, match=rf"^{key}: the ranks in .* were found with .*, now it is "):
        refuse_other_model(tiny_config(key, value), folder)


def test_settings_that_would_have_made_other_ranks_are_said_to_do_nothing(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    folder = RunFolder.of(tiny_config())
    command = ("--answer.budget", "4", "--search.steps", "3", "--verdict.minutes", "3")

    def asked() -> Request:
        given = Given(command=frozenset({"answer.budget", "search.steps", "verdict.minutes"}))
        return Request(tiny_config(*command), "verdict", False, "tiny.yaml", given)

    tell_ignored(asked(), folder)
    assert not log_lines, "the command searches first"
    write_json(folder.ranks, {})
    write_text(folder.config, to_yaml(tiny_config("--search.steps", "3")))
    tell_ignored(asked(), folder)
    (line,) = log_lines
    assert line.startswith(
        "WARNING --stage verdict does not read --answer.budget, as the verdict is about the ranks in "
    )
    assert line.endswith(f"for other ranks give --name and --answer.from {folder.root}")
    write_text(folder.config, to_yaml(tiny_config()))
    log_lines.clear()
    tell_ignored(asked(), folder)
    (line,) = log_lines
    assert "--answer.budget, --search.steps" in line
    assert line.endswith("for other ranks give --name"), "with --answer.from the other search would be refused"


def test_ranks_that_no_search_of_the_run_chose_have_no_components_to_start_from(
    tiny_config: Callable[..., RunConfig],
) -> None:
    """Each training of the verdict was refused because of a key that the user had not given."""
    config = tiny_config("--retrain.init", "search")
    write_json(RunFolder.of(config).ranks, {"k": 4, "layers": [{"name": "a", "rank": 1}]})
    with pytest.raises(UserError, match=r"^--retrain\.init: 'search' needs .*; give --retrain\.init scratch$"):
        run_verdict(Request(config, "verdict", False, "x"), StopRequest())


def test_pairs_that_are_trained_otherwise_than_the_adapter_are_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    """The verdict told to use an adapter that was trained for another number of steps and at another scale."""
    folder = RunFolder.of(tiny_config())
    tell_other_retraining(tiny_config(), folder)
    trained = tiny_config("--retrain.max_steps", "9", "--retrain.row_losses", "true")
    write_json(folder.metrics, RESULT | {"settings": RETRAINING.of(trained), "learning_rate": 0.5})
    tell_other_retraining(trained, folder)
    (line,) = log_lines
    assert line.endswith("about these: --retrain.learning_rate (now 0.001, then 0.5)")
    log_lines.clear()
    tell_other_retraining(tiny_config("--retrain.learning_rate", "0.5"), folder)
    (line,) = log_lines
    assert line == (
        f"WARNING the pairs are trained by other settings than the adapter in {folder.root} was, and the verdict is "
        f"about these: --retrain.max_steps (now 4, then 9)"
    )
