"""After a long search that learned next to nothing no longer one is proposed, as the task may not gain from LoRA."""

import dataclasses
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.report.next_step import next_step, next_steps
from autolora.engine.run.folder import RunFolder
from tests.helpers.evidence import evidence_of
from tests.helpers.finished import RESULT
from tests.helpers.rank_records import answered_record
from tests.helpers.verdict_file import FOUND

Config = Callable[..., RunConfig]
NOTHING = evidence_of(gain=0.001)
SLIGHT = evidence_of(loss=10.8, gain=0.0004, gain_standard_error=0.0001)


def searched(config: RunConfig, evidence: Any, rows: int = 0) -> RunFolder:
    """The folder of a search on so many rows, of D_tr and D_val together, with this evidence."""
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    ranks.save(dataclasses.replace(answered_record(), evidence=evidence), folder.ranks)
    data = {"classes": [], "training": {"rows": rows, "sha256": ""}, "evaluation_rows": None, "evaluation": {}}
    write_json(folder.search_summary, {"parameters_per_rank": {"a": 1}, "data": data})
    return folder


def request(config: RunConfig, stage: Any = "all") -> Request:
    return Request(config, stage, False, "quickstart.yaml")


def proposed(config: RunConfig) -> RunConfig:
    found = next_step(request(config))
    assert found is not None
    return parse(shlex.split(found[0])[2:]).config


@pytest.fixture(autouse=True)
def started_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.engine.run.places.program", lambda: "python run.py")


@pytest.mark.parametrize("evidence", [NOTHING, SLIGHT])
def test_a_run_without_lora_is_proposed_in_place_of_a_second_longer_search(tiny_config: Config, evidence: Any) -> None:
    """A longer search was proposed after each, although the task gained nothing from LoRA."""
    config = tiny_config("--name", "tiny-longer")
    folder = searched(config, evidence)
    other = proposed(config)
    assert (other.name, other.method) == ("tiny-longer-head", "head")
    found = next_step(request(config))
    assert found is not None
    assert "so this task may not gain from LoRA, or have too few rows to show it; " in found[1]
    assert found[1].endswith("this shows the result without it")
    assert next_steps(request(config, "search"))[1:] == [found]
    write_json(folder.at(folder.root.with_name("tiny-longer-head")).metrics, RESULT)
    assert next_step(request(config)) is None
    assert len(next_steps(request(config, "search"))) == 1, "the retraining, which the search was for"


@pytest.mark.parametrize(("rows", "long"), [(200, True), (201, False)])
def test_ten_passes_over_d_tr_are_a_long_search(tiny_config: Config, rows: int, long: bool) -> None:
    config = tiny_config("--search.steps", "125", "--search.batch_size", "4", "--search.gradient_accumulation", "2")
    searched(config, SLIGHT, rows)
    assert proposed(config).method == ("head" if long else "autolora")
    assert proposed(config).search.steps == (125 if long else 250)


def test_a_verdict_that_saw_no_gain_does_not_ask_for_a_second_longer_training(tiny_config: Config) -> None:
    config = tiny_config("--name", "tiny-longer")
    folder = searched(config, NOTHING)
    told = "LoRA does nothing for these rows: train longer, at another rate, or on more rows, and then choose ranks."
    write_json(folder.verdict_summary, FOUND | {"ending": "undecided", "recommendation": told})
    assert next_step(request(config)) is None
