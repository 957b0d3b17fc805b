"""The comparison of hypergradients belongs to its own steps, etas and rounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from configs.errors import UserError
from configs.schema import RunConfig
from engine.disk.files import write_json, write_text
from engine.study.comparison import COMPARED, refuse_changed_probe
from engine.study.folder import StudyFolder

PROBED = {
    ("--study.probe.steps", "[1]", "--study.axes", "{seed: [0]}"): True,
    ("--study.probe.etas", "[1e-3]"): True,
    ("--study.probe.timed_steps", "1"): True,
    ("--search.steps", "9"): True,
    ("--hypergradient.terms", "9"): True,
    ("--study.launcher", "ray"): False,
    ("--study.ray.cpus", "2"): False,
    ("--study.axes", "{seed: [0, 1]}"): False,
    ("--retrain.epochs", "9"): False,
    ("--task.metrics", "[f1_macro]"): False,
    ("--lora.r", "2"): False,
}


@pytest.mark.parametrize("change", PROBED, ids=lambda value: str(value[0]))
def test_a_comparison_of_hypergradients_is_of_its_own_steps_and_etas(
    tiny_config: Callable[..., RunConfig], change: tuple[str, ...]
) -> None:
    folder = StudyFolder.of(tiny_config())
    write_json(folder.probe_settings, COMPARED.of(tiny_config()))
    refuse_changed_probe(tiny_config(*change), folder)  # no comparison is there
    write_text(folder.probe, "")
    refuse_changed_probe(tiny_config(), folder)
    if PROBED[change]:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* holds a comparison of hypergradients with "):
            refuse_changed_probe(tiny_config(*change), folder)
    else:
        refuse_changed_probe(tiny_config(*change), folder)
