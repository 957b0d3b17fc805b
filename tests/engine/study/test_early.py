"""What is wrong with a study's settings is refused from the settings alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from configs.errors import UserError
from configs.requests import Request
from configs.schema import RunConfig, StudyConfig
from engine.study.early import refuse_early


def study(config: RunConfig, axes: dict[str, list[Any]], stage: Any = "all") -> Request:
    return Request(dataclasses.replace(config, study=StudyConfig(axes)), stage, False, "study.yaml")


def test_a_sound_study_passes(tiny_config: Callable[..., RunConfig]) -> None:
    for stage in ("all", "report"):
        refuse_early(study(tiny_config(), {"seed": [0, 1]}, stage))


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
