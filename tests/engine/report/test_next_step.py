"""The command that is proposed after a run: one that parses, and the comparison that matters now."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.report import next_step as module
from autolora.engine.report.next_step import next_step, next_steps, print_next
from autolora.engine.run.folder import RunFolder
from autolora.engine.verdict.arms import SEEDS
from autolora.engine.verdict.judge import FEWEST
from tests.helpers.evidence import evidence_of
from tests.helpers.finished import RESULT
from tests.helpers.neighbours import put, result_of
from tests.helpers.next_steps import asked, parsed
from tests.helpers.rank_records import answered_record
from tests.helpers.verdict_file import FOUND

Config = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def started_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.engine.run.places.program", lambda: "python run.py")


def test_after_a_search_it_is_the_retraining_and_after_a_control_a_search(tiny_config: Config) -> None:
    config = tiny_config("--task.train_rows", "33")
    again = parsed(next_step(asked(config, "search")[0])[0])
    assert (again.stage, again.config.name) == ("retrain", "tiny")
    assert again.config.task.train_rows == 33, "what was said on the command line holds"
    other = parsed(next_step(asked(tiny_config("--method", "lora"))[0])[0])
    assert (other.config.method, other.config.name) == ("autolora", "tiny-autolora")


def test_a_search_that_learned_nothing_is_made_longer(tiny_config: Config) -> None:
    """Ranks by another approximation, or a verdict on these, would tell nothing."""
    config = tiny_config()
    request, folder = asked(config)
    ranks.save(dataclasses.replace(answered_record(), evidence=evidence_of(gain=0.001)), folder.ranks)
    command, why = next_step(request)
    again = parsed(command).config
    assert (again.name, again.search.steps) == ("tiny-longer", 2 * config.search.steps)
    assert why.startswith("LoRA has not learned anything")
    easy = dataclasses.replace(answered_record(), evidence=evidence_of(gain=0.001, loss=0.04))
    ranks.save(easy, folder.ranks)
    assert next_step(request) is None, "the head alone solves the task"
    searched, _ = asked(config, "search")
    assert len(next_steps(searched)) == 1, "the retraining, which the search was for"


def test_a_search_that_learned_next_to_nothing_is_made_longer_as_its_answer_says(tiny_config: Config) -> None:
    """A verdict was proposed beside an answer that a longer search may change."""
    config = tiny_config()
    request, folder = asked(config)
    slight = evidence_of(loss=10.8, gain=0.0004, gain_standard_error=0.0001)
    ranks.save(dataclasses.replace(answered_record(), evidence=slight), folder.ranks)
    command, why = next_step(request)
    assert parsed(command).config.search.steps == 2 * config.search.steps
    assert why == "LoRA lowers the loss on D_val by less than 1 %; a longer search may change that"
    after_the_search, _ = asked(config, "search")
    retraining, longer = next_steps(after_the_search)
    assert parsed(retraining[0]).stage == "retrain"
    assert longer == (command, why)


@pytest.mark.parametrize(
    ("seconds", "said", "minutes"),
    [(3.0, "", "1 minute"), (60.0, " --verdict.minutes 18", "18 minutes")],
)
def test_the_verdict_is_named_with_its_time_until_it_is_there(
    tiny_config: Config, seconds: float, said: str, minutes: str
) -> None:
    request, folder = asked(tiny_config())
    ranks.save(answered_record(), folder.ranks)
    write_json(folder.metrics, RESULT | {"seconds": {"retrain": seconds, "total": 9.0}})
    command, why = next_step(request)
    assert command == f"python run.py --config {folder.config} --stage verdict{said}"
    assert parsed(command).stage == "verdict"
    assert why.endswith(f"8 pairs take about {minutes}")
    write_json(folder.verdict_summary, FOUND)
    assert "--stage verdict" not in next_step(request)[0]


def test_the_pairs_and_the_heads_are_those_of_the_verdict() -> None:
    """engine/report lies below engine/verdict and cannot import them."""
    assert (FEWEST, SEEDS) == (module._PAIRS, module._HEADS)


def test_the_time_counts_the_arms_of_the_verdict(tiny_config: Config) -> None:
    request, folder = asked(tiny_config("--verdict.arms", "[uniform,random]"))
    ranks.save(answered_record(), folder.ranks)
    write_json(folder.metrics, RESULT | {"seconds": {"retrain": 30.0, "total": 9.0}})
    assert next_step(request)[1].endswith("8 pairs take about 17 minutes")  # 8 x 4 + 2 trainings of half a minute


@pytest.mark.parametrize(("train_rows", "minutes"), [(100, 27), (None, 18)])
def test_the_time_counts_the_evaluation_of_unused_rows_too(
    tiny_config: Config, train_rows: int | None, minutes: int
) -> None:
    """The rows of a language model take longer to evaluate than its training takes, if there are many of them."""
    given = "null" if train_rows is None else f"{train_rows}"
    request, folder = asked(tiny_config("--task.train_rows", given, "--verdict.rows", "150"))
    ranks.save(answered_record(), folder.ranks)
    result = RESULT | {
        "seconds": {"retrain": 40.0, "total": 9.0}, "seconds_evaluation": 20.0,
        "evaluated_rows": 100, "data": {
            "classes": [], "training": {"rows": 100, "sha256": ""}, "evaluation_rows": None,
            "evaluation": {}, "source": {"rows": 1000, "sha256": ""},
        },
    }  # fmt: skip
    write_json(folder.metrics, result)
    # 8 x 2 + 2 trainings of 40 s; each evaluates 100 + 150 rows in 50 s, or 100 in 20 s if no rows are unused
    assert next_step(request)[1].endswith(f"8 pairs take about {minutes} minutes")


def test_after_a_search_the_verdict_is_named_too_if_it_can_say_anything(
    tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    request, folder = asked(tiny_config(), "search")
    ranks.save(answered_record(), folder.ranks)
    (_, (command, why)) = next_steps(request)
    assert parsed(command).stage == "verdict"
    assert "stops after 14 minutes" in why
    print_next(request)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["next", "or"]
    sizes = {layer.name: number for number, layer in enumerate(answered_record().layers, start=1)}
    write_json(folder.search_summary, {"parameters_per_rank": sizes})
    sweep, _ = asked(tiny_config("--retrain.learning_rates", "[0.1,0.2]"), "search")
    assert len(next_steps(sweep)) == 1, "a verdict would be refused until the sweep has chosen a rate"
    asked(tiny_config())
    assert len(next_steps(request)) == 1, "no two layers have one size, so that a shuffle changes nothing"
    done, _ = asked(tiny_config())
    write_json(folder.metrics, RESULT | {"seconds": {"retrain": 1.0, "total": 9.0}})
    assert parsed(next_step(request)[0]).overwrite, "without it the retraining of a finished run is refused"
    assert "--stage verdict" not in next_step(done)[0]


@pytest.mark.parametrize("place", ["runs", "lora_shuffled_study"])
def test_where_a_verdict_takes_long_it_is_one_shuffled_run(tiny_config: Config, tmp_path: Path, place: str) -> None:
    """The name of a folder once decided whether the shuffled run was there."""
    request, folder = asked(tiny_config("--runs_folder", str(tmp_path / place)))
    ranks.save(answered_record(), folder.ranks)
    result = result_of() | {"lora_parameters": 1200, "seconds": {"retrain": 600.0, "total": 9.0}}
    write_json(folder.metrics, result)
    command, why = next_step(request)
    shuffled = parsed(command).config
    assert (shuffled.method, shuffled.lora.ranks_from) == ("lora_shuffled", str(folder.ranks))
    assert "about 180 minutes" in why
    put(folder.root.parent, "shuffled", result_of("lora_shuffled", 0.4))
    ranks.save(answered_record(), RunFolder(folder.root.parent / "shuffled").ranks)
    assert "--method lora_shuffled" not in next_step(request)[0], "it has been run"


def test_a_run_with_the_longest_name_gets_a_command_that_is_allowed(tiny_config: Config) -> None:
    request, folder = asked(tiny_config("--method", "lora", "--name", "n" * 100))
    write_json(folder.metrics, RESULT)
    assert parsed(next_step(request)[0]).config.name == "n" * 91 + "-autolora"


@pytest.mark.parametrize("rule", ["shares", "size"])
def test_once_the_places_are_told_it_is_a_budget_that_is_enough(tiny_config: Config, rule: str) -> None:
    """By the rule of its curve."""
    request, folder = asked(tiny_config())
    evidence = dataclasses.replace(evidence_of(), budget_rule=rule)
    ranks.save(answered_record(lora_parameters=4000, evidence=evidence), folder.ranks)
    write_json(folder.search_summary, {"parameters_per_rank": {"a": 200, "b": 200}})
    write_json(folder.verdict_summary, FOUND)
    command, why = next_step(request)
    budget = evidence_of().sufficient_budget(0.05)
    assert budget is not None
    smaller = parsed(command).config
    assert (smaller.answer.from_run, smaller.answer.budget) == (str(folder.root), budget.at)
    assert smaller.answer.rule == rule
    assert "% fewer parameters" in why
    ranks.save(answered_record(lora_parameters=100), folder.ranks)
    assert "--answer.from" not in next_step(request)[0], "it has fewer already"
    ranks.save(answered_record(lora_parameters=4000), folder.ranks)
    sizes = {layer.name: 8 if layer.rank else 400 for layer in answered_record().layers}
    write_json(folder.search_summary, {"parameters_per_rank": sizes | {"b": 400}})
    assert "--answer.from" not in next_step(request)[0], "edited ranks have fewer than the file says"


def test_where_equal_ranks_left_nothing_to_test_it_is_a_budget_that_is_enough(tiny_config: Config) -> None:
    request, folder = asked(tiny_config())
    ranks.save(answered_record(lora_parameters=4000), folder.ranks)
    write_json(folder.search_summary, {"parameters_per_rank": {"a": 200, "b": 200}})
    untested = {"ending": "undecided", "sentence": "Not tested.", "pairs": 0, "recommendation": "Keep these ranks"}
    write_json(folder.verdict_summary, untested)
    assert "--answer.from" in next_step(request)[0]


def test_the_size_of_rank_1_is_also_read_of_the_trials(tiny_config: Config) -> None:
    request, folder = asked(tiny_config())
    ranks.save(answered_record(lora_parameters=4000), folder.ranks)
    write_json(folder.grid, {"parameters_per_rank": {"a": 200, "b": 200}})
    write_json(folder.verdict_summary, FOUND)
    assert "--answer.from" in next_step(request)[0]


@pytest.mark.parametrize("source", ["null", "runs/other"])
def test_with_nothing_else_to_tell_it_is_another_hypergradient(tiny_config: Config, source: str) -> None:
    by_shares = ("--answer.rule", "shares", "--answer.rows", "100")
    for had, rule, other in (
        ("darts", (), "first_order"),
        ("first_order", (), "darts"),  # by threshold, "none" keeps all components
        ("first_order", by_shares, "none"),
    ):
        request, _ = asked(tiny_config("--hypergradient.type", had, "--answer.from", source, *rule))
        found = parsed(next_step(request)[0]).config
        assert found.hypergradient.type == other
        assert found.answer.from_run is None, "another hypergradient is another search"


@pytest.mark.parametrize(
    ("given", "proposes"),
    [
        ((), False),
        (("--answer.rule", "shares", "--answer.rows", "100"), False),  # alpha is always 1
        (("--search.constraint", "none"), False),  # lambda is always alpha
        (("--search.constraint", "none", "--answer.rule", "shares", "--answer.rows", "100"), True),
        (("--search.constraint", "sigmoid"), True),
        (("--method", "lora"), True),
    ],
)
def test_with_one_component_a_layer_no_other_hypergradient_is_proposed_unless_it_can_change_a_rank(
    tiny_config: Config, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], proposes: bool
) -> None:
    request, _ = asked(tiny_config("--lora.k", "1", *given))
    print_next(request)
    assert (capsys.readouterr().out != "") == proposes == (next_step(request) is not None)


def test_beside_a_cell_of_a_study_nothing_is_proposed(
    tiny_config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A run among the cells would count as one of them, and be deleted when the study is overwritten."""
    request, _ = asked(tiny_config("--runs_folder", str(tmp_path / "study" / "cells")))
    print_next(request)
    assert capsys.readouterr().out == ""


def test_it_is_printed_in_one_line_however_narrow_the_window(
    tiny_config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolora.engine.report.next_step.console.width", 20)
    request, _ = asked(tiny_config())
    print_next(request)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("             next  python run.py --config ")
    assert shlex.split(line, comments=True)[1:] == shlex.split(next_step(request)[0])
