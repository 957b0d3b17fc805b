"""The command that is proposed after a verdict."""

import dataclasses
from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.report.next_step import next_step, next_steps
from autolora.engine.run.folder import RunFolder
from tests.helpers.evidence import evidence_of
from tests.helpers.neighbours import RECORD, put, result_of
from tests.helpers.next_steps import OTHER_SEARCH, asked, parsed
from tests.helpers.rank_records import answered_record
from tests.helpers.verdict_file import FOUND

Config = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def started_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.engine.run.places.program", lambda: "python run.py")


UNIFORM = "python run.py --config c.yaml --name tiny-uniform --method lora --lora.r 2"


def judged(folder: RunFolder, ending: str, recommendation: str) -> None:
    """Gives the run ranks, and a verdict that ended so."""
    ranks.save(answered_record(evidence=None), folder.ranks)
    write_json(folder.verdict_summary, FOUND | {"ending": ending, "recommendation": recommendation})


@pytest.mark.parametrize(
    ("ending", "recommendation", "why"),
    [
        ("equal", "Choose by cost alone: keep these ranks, or take rank 2 in every layer", "choose by cost alone: "),
        ("worse", "Do not use these ranks; take rank 2 in every layer", "do not use these ranks; take rank 2 "),
        ("undecided", "No more than 24 pairs are trained. To be safe, take rank 2 in every layer", "no more than 24 "),
    ],
)
def test_after_a_verdict_it_is_the_command_that_the_verdict_recommends_until_that_run_is_there(
    tiny_config: Config, ending: str, recommendation: str, why: str
) -> None:
    """After "places do not matter" another search of places was proposed."""
    request, folder = asked(tiny_config())
    judged(folder, ending, f"{recommendation}: {UNIFORM}")
    command, told = next_step(request) or ("", "")
    assert command.endswith(UNIFORM.removeprefix("python"))
    assert told.startswith(why)
    assert not told.endswith(":")
    put(folder.root.parent, "tiny-uniform", result_of("lora"))
    after = next_step(request)
    assert (after is None) == (ending != "worse")
    assert after is None or after[1] == OTHER_SEARCH


@pytest.mark.parametrize("steps", [True, False])
def test_after_a_verdict_that_there_is_nothing_to_gain_it_is_a_longer_training(
    tiny_config: Config, steps: bool
) -> None:
    config = tiny_config("--retrain.max_steps", "30" if steps else "null", "--retrain.epochs", "1.5")
    request, folder = asked(config)
    judged(folder, "undecided", "LoRA does nothing for these rows: train longer, and then choose ranks.")
    command, why = next_step(request) or ("", "")
    longer = parsed(command).config
    assert (longer.name, longer.search.steps) == ("tiny-longer", 2 * config.search.steps)
    assert (longer.retrain.max_steps, longer.retrain.epochs) == ((60, 1.5) if steps else (None, 3.0))
    assert why == "LoRA does nothing for these rows; a longer training may change that"
    ranks.save(dataclasses.replace(answered_record(), evidence=evidence_of(gain=0.0, loss=0.01)), folder.ranks)
    assert next_step(request) is None


def test_a_verdict_that_is_not_decided_is_continued_and_one_of_other_ranks_made_again(tiny_config: Config) -> None:
    request, folder = asked(tiny_config())
    told = "The same command trains further pairs for another 14 minutes; until then, take rank 2 in every layer"
    judged(folder, "undecided", f"{told}: {UNIFORM}")
    again = parsed((next_step(request) or ("", ""))[0])
    assert (again.stage, again.overwrite, again.config.name) == ("verdict", False, "tiny")
    ranks.save(RECORD, folder.verdict / "ranks.json")
    again = parsed((next_step(request) or ("", ""))[0])
    assert (again.stage, again.overwrite) == ("verdict", True)


def test_after_places_that_matter_it_is_the_training_at_them_and_then_another_search(tiny_config: Config) -> None:
    request, folder = asked(tiny_config(), "search")
    judged(folder, "matter", f"Use these ranks: python run.py --config {folder.config} --stage retrain")
    ((command, why),) = next_steps(request)
    assert command.endswith(f"run.py --config {folder.config} --stage retrain")
    assert why == "use these ranks"
    judged(folder, "matter", "Use these ranks: the adapter is trained at them.")
    assert [why for _, why in next_steps(request)] == [OTHER_SEARCH]
