"""What is wrong with a study's settings is refused from the settings alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Given, Request
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.configs.schema_study import ProbeConfig
from autolora.engine.study.early import refuse_early


def study(config: RunConfig, axes: dict[str, list[Any]], stage: Any = "all") -> Request:
    return Request(dataclasses.replace(config, study=StudyConfig(axes)), stage, False, "study.yaml")


def test_a_sound_study_passes(tiny_config: Callable[..., RunConfig]) -> None:
    for stage in ("all", "report"):
        refuse_early(study(tiny_config(), {"seed": [0, 1]}, stage))


def test_a_key_of_the_command_line_that_the_study_sets_itself_is_refused_or_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    variants: dict[str, Any] = {"short": {"search.steps": 5, "answer.from": "a"}, "long": {"search.steps": 9}}
    config = dataclasses.replace(tiny_config(), study=StudyConfig({"seed": [0, 1]}, variants))

    def told(*keys: str, stage: Any = "all") -> list[str]:
        log_lines.clear()
        refuse_early(Request(config, stage, False, "study.yaml", Given(frozenset(keys))))
        return [line for line in log_lines if line.startswith("WARNING")]

    with pytest.raises(UserError, match=r"^--search\.steps: does nothing, as the study sets it in every cell; change"):
        told("search.steps")
    assert told("answer.from_run") == [
        "WARNING --answer.from_run: holds for 2 of the study's 4 cells; in the others study.variants or study.where "
        "sets it"
    ]
    assert told("retrain.batch_size") == []
    with pytest.raises(UserError, match=r"^--seed: does nothing beside study\.axes, which has values of seed"):
        told("seed")
    assert told("search.steps", stage="report") == []


@pytest.mark.parametrize("name", ["table4_ablations.yaml", "beta.yaml"])
def test_shipped_studies_refuse_what_they_overrule(name: str) -> None:
    key, value = ("search.steps", "100") if name.startswith("table4") else ("hypergradient.type", "exact")
    request = parse(["--config", name, f"--{key}", value])
    with pytest.raises(UserError, match=rf"^--{key}: does nothing"):
        refuse_early(request)


def test_what_the_comparison_alone_reads_is_told_and_not_refused(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    given = ("--search.patience", "0", "--search.steps", "4")
    config = dataclasses.replace(
        tiny_config(*given),
        study=StudyConfig({"seed": [0]}, {"a": {"hypergradient.type": "exact"}}, probe=ProbeConfig(steps=[2])),
    )
    refuse_early(Request(config, "all", False, "study.yaml", Given(frozenset({"hypergradient.type"}))))
    assert log_lines[-1:] == [
        "INFO --hypergradient.type: holds for the comparison of hypergradients alone; the study sets it in every cell"
    ]


@pytest.mark.parametrize(
    ("axes", "stage", "words"),
    [
        ({"seed": [0, 1]}, "search", r"^--stage: 'search' is not allowed for a study; allowed: all, report"),
        ({"lora.k": [4, -1]}, "all", r"lora\.k"),
        ({"seeds": [0, 1]}, "all", "seeds"),
    ],
)
def test_a_wrong_stage_key_or_value_is_refused(
    tiny_config: Callable[..., RunConfig], axes: dict[str, list[Any]], stage: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        refuse_early(study(tiny_config(), axes, stage))


@pytest.mark.parametrize("stage", ["all", "report"])
def test_a_reference_that_is_no_row_is_refused(tiny_config: Callable[..., RunConfig], stage: Any) -> None:
    asked = StudyConfig({"hypergradient.type": ["darts", "exact"]}, reference="cg")
    with pytest.raises(UserError, match=r"^--study\.reference: no row .* 'cg'; there are: 'darts', 'exact'$"):
        refuse_early(Request(dataclasses.replace(tiny_config(), study=asked), stage, False, "study.yaml"))
