"""Cells that differ only in what nothing reads are spoken of."""

import pytest

from autolora.configs.files import CONFIGS, shipped_configs
from autolora.configs.parser import parse
from autolora.engine.study.cells import expand
from autolora.engine.study.equal import tell_equal
from autolora.engine.study.folder import StudyFolder


def told(log_lines: list[str], *arguments: str) -> list[str]:
    config = parse(list(arguments)).config
    cells = expand(config, StudyFolder.of(config))
    log_lines.clear()
    tell_equal(config.study, cells)
    return log_lines


def test_an_eta_that_one_type_does_not_read(log_lines: list[str]) -> None:
    """Both cells of first_order took their minutes."""
    axes = "{hypergradient.type: [first_order, darts], hypergradient.eta: [lr, betty]}"
    assert told(log_lines, "--study.axes", axes) == [
        "WARNING --study: 1 of the 4 cells will be equal runs to others, as nothing reads the settings in which they "
        "differ, such as type-first_order_eta-lr and type-first_order_eta-betty; study.exclude leaves cells out"
    ]
    left_out = "[{hypergradient.type: first_order, hypergradient.eta: betty}]"
    assert told(log_lines, "--study.axes", axes, "--study.exclude", left_out) == []


@pytest.mark.parametrize("name", [name for name in shipped_configs() if "\nstudy:" in (CONFIGS / name).read_text()])
def test_no_shipped_study_has_any(name: str, log_lines: list[str]) -> None:
    assert told(log_lines, "--config", name) == []
