"""A cell that reads from another one: the study must have that cell."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.disk.files import write_json
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.sources import refuse_missing_sources
from tests.helpers.finished import RESULT

Refuse = Callable[[dict[str, dict[str, Any]]], None]


@pytest.fixture
def refuse(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> Refuse:
    """refuse({"a": {}, "b": {...}}): checks the sources of a study of these variants."""

    def check(variants: dict[str, dict[str, Any]]) -> None:
        config = dataclasses.replace(tiny_config(), study=StudyConfig(variants=variants))
        refuse_missing_sources(StudyFolder(tmp_path), expand(config, StudyFolder(tmp_path)))

    return check


def at_ranks_of(path: str) -> dict[str, Any]:
    return {"method": "lora_shuffled", "lora.ranks_from": path}


def from_components_of(path: str) -> dict[str, Any]:
    return {"method": "lora", "retrain.init": "search", "retrain.init_from": path}


@pytest.mark.parametrize(
    "reads", [at_ranks_of("{runs}/{}"), from_components_of("{runs}/{}"), {"answer.from": "{runs}/{}"}]
)
def test_a_source_that_is_no_cell_is_refused_with_the_nearest_one(refuse: Refuse, reads: dict[str, Any]) -> None:
    """The study trained all other cells, and failed then."""

    def named(cell: str) -> dict[str, Any]:
        return {key: value.replace("{}", cell) for key, value in reads.items()}

    refuse({"first": {}, "second": named("variant-first")})
    message = (
        r": .*/cells/variant-frist, which the cell variant-second reads, does not exist, .* mean variant-first\?$"
    )
    with pytest.raises(UserError, match=rf"^--{list(reads)[-1]}{message}"):
        refuse({"first": {}, "second": named("variant-frist")})
    with pytest.raises(UserError, match=r"variant-second reads, is of this cell itself"):
        refuse({"first": {}, "second": named("variant-second")})
    with pytest.raises(UserError, match=r"is of a cell of method full, which has no (ranks|search)"):
        refuse({"first": {"method": "full"}, "second": named("variant-first")})


def test_ranks_may_be_named_by_their_file_and_no_other_file(refuse: Refuse) -> None:
    refuse({"first": {}, "second": at_ranks_of("{runs}/variant-first/ranks.json")})
    with pytest.raises(UserError, match=r"is no file that a cell writes for others; give the cell's folder, .*first$"):
        refuse({"first": {}, "second": at_ranks_of("{runs}/variant-first/rank.json")})


def test_what_exists_lies_elsewhere_or_is_not_read_any_more_is_allowed(refuse: Refuse, tmp_path: Path) -> None:
    refuse({"first": {}, "second": at_ranks_of(str(tmp_path / "elsewhere"))})
    write_json(StudyFolder(tmp_path).cells / "variant-earlier" / "ranks.json", {})
    refuse({"first": {}, "second": at_ranks_of("{runs}/variant-earlier")})
    write_json(StudyFolder(tmp_path).cells / "variant-second" / "metrics.json", RESULT)
    refuse({"first": {}, "second": at_ranks_of("{runs}/variant-gone")})
