"""Studies of the tests: two axes, three variants."""

import dataclasses

import pytest

from configs.schema import RunConfig, StudyConfig
from configs.schema_study import ProbeConfig
from engine.study.launchers.base import Job

AXES = {"hypergradient.type": ["first_order", "exact"], "seed": [0, 1]}
VARIANTS = {
    "autolora": {},
    "by size": {"answer.rule": "size", "answer.budget": 2},
    "shuffled": {"method": "lora_shuffled", "lora.ranks_from": "{runs}/seed-{seed}_variant-autolora/ranks.json"},
}


def with_study(config: RunConfig, axes: dict, probe: ProbeConfig | None = None) -> RunConfig:
    return dataclasses.replace(config, study=StudyConfig(axes, probe=probe or ProbeConfig()))


def job(name: str, *after: str) -> Job:
    """A job that is never begun."""
    return Job(name, lambda: pytest.fail("begun"), frozenset(after))
