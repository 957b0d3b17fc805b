"""A study's comparison holds every approximation against exact, and counts what a step of each costs."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.configs.search import COMPARED as TYPES
from autolora.configs.study import ProbeConfig
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.study.comparison import COMPARED, data_of_probe, read_comparison, refuse_changed_probe, run_probe
from autolora.engine.study.folder import AskedOfStudy, StudyFolder
from autolora.engine.study.sections import comparison_sections
from tests.helpers.documented_passes import documented_passes
from tests.helpers.studies import AXES, with_study
from tests.helpers.tiny import tiny_arguments


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]
) -> tuple[RunConfig, StudyFolder]:
    """A comparison at two steps, without the runs of its study."""
    root = tmp_path_factory.mktemp("comparison")
    config = parse([*tiny_arguments(model_folder("bert"), root), "--search.patience", "0"]).config
    config = with_study(config, AXES, ProbeConfig(steps=[1, 4], etas=[1e-3, "betty"], timed_steps=1))
    folder = StudyFolder(root / "runs" / "tiny")
    run_probe(config, folder, StopRequest())
    return config, folder


@pytest.mark.trains
def test_the_table_of_costs_says_what_they_were_measured_on(compared: tuple[RunConfig, StudyFolder]) -> None:
    found = read_comparison(compared[1])
    assert found is not None
    _, cost = comparison_sections(found)
    on = r" Measured on: cpu( \(.+\))?, \d+ threads?, arithmetic fp32, batches of \d+, eager attention for all"
    assert re.search(on, cost.note)
    older = found._replace(timed_on="")
    assert "Measured on" not in comparison_sections(older)[1].note


@pytest.mark.trains
def test_a_comparison_tells_how_far_it_is(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    """It takes minutes, which once passed without a line."""
    config = with_study(tiny_config("--search.patience", "0"), AXES, ProbeConfig(steps=[1, 2], timed_steps=1))
    (tmp_path / "study").mkdir()
    run_probe(config, StudyFolder(tmp_path / "study"), StopRequest())
    told = [line for line in log_lines if line.startswith("INFO probe: ")]
    assert told[1:] == [
        "INFO probe: compared at step 1 of 2", "INFO probe: compared at step 2 of 2",
        "INFO probe: timing a step of each approximation, 1 round",
    ]  # fmt: skip


def test_a_study_that_copies_a_search_compares_nothing(tmp_path: Path) -> None:
    """As the warning about study.probe says there; it would need a search of its own."""
    config = parse(["--answer.from", "runs/a", "--study.axes", "{seed: [0]}", "--study.probe.steps", "[2]"]).config
    run_probe(config, StudyFolder(tmp_path), StopRequest())
    assert not list(tmp_path.iterdir())


@pytest.mark.trains
def test_probe_compares_every_approximation_with_exact(compared: tuple[RunConfig, StudyFolder]) -> None:
    rows = pd.read_parquet(compared[1].probe)
    assert set(rows["approximation"]) == set(TYPES)
    assert set(rows["step"]) == {1, 4}
    exact = rows[rows["approximation"] == "exact"]
    assert exact["cosine"].min() > 0.9999
    difference = rows[(rows["approximation"] == "darts") & (rows["step"] == 4)]
    assert difference["cosine"].min() > 0.99


@pytest.mark.trains
def test_a_comparison_records_the_rows_and_the_weights_that_it_was_made_with(
    compared: tuple[RunConfig, StudyFolder],
) -> None:
    config, folder = compared
    run = Context(config, StopRequest())
    run.base()
    expected = {part: value for part, value in run.fingerprint.items() if not part.startswith("evaluation")}
    assert expected.keys() == {"classes", "training", "source", "weights"}
    assert data_of_probe(folder) == expected
    refuse_changed_probe(AskedOfStudy(config, folder))


@pytest.mark.trains
def test_cost_counts_the_documented_passes(compared: tuple[RunConfig, StudyFolder]) -> None:
    rows = pd.read_parquet(compared[1].cost).set_index("approximation")
    for name in TYPES:
        counted = rows.loc[name, "forward_passes"], rows.loc[name, "backward_passes"]
        assert counted == documented_passes(name, 3)
    assert rows.loc["lora", "ratio_to_lora"] == 1


STUDY = {"--hypergradient.type": "neumann", "--study.axes": "{seed: [0]}", "--study.probe.steps": "[2]"}
PROBED = {
    ("--study.probe.steps", "[1]"): True,
    ("--study.probe.etas", "[1e-3]"): True,
    ("--study.probe.timed_steps", "1"): True,
    ("--search.steps", "9"): True,
    ("--hypergradient.terms", "9"): True,
    ("--study.launcher", "ray"): False,
    ("--study.ray.cpus", "2"): False,
    ("--study.axes", "{seed: [0, 1]}"): False,
    ("--retrain.epochs", "9"): False,
    ("--task.metrics", "[f1_macro]"): False,
    ("--lora.dropout", "0.1"): True,
}


@pytest.mark.parametrize("change", PROBED, ids=lambda value: str(value[0]))
def test_a_comparison_of_hypergradients_is_of_its_own_steps_and_etas(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str]
) -> None:
    before, after = (tiny_config(*chain(*words.items())) for words in (STUDY, STUDY | dict([change])))
    folder = StudyFolder.of(before)
    write_json(folder.probe_settings, {"settings": COMPARED.of(before)})
    refuse_changed_probe(AskedOfStudy(after, folder))  # no comparison is there
    write_text(folder.probe, "")
    refuse_changed_probe(AskedOfStudy(before, folder))
    if PROBED[change]:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* holds a comparison of hypergradients with "):
            refuse_changed_probe(AskedOfStudy(after, folder))
    else:
        refuse_changed_probe(AskedOfStudy(after, folder))


DAMAGES = {
    "settings: .*, holds 'x'": '{"settings": "x"}', "own: .*, holds 3": '{"own": 3}', "not readable as JSON": '{"own"',
    r"data\.classes is missing": '{"data": {}}', "timed_on: .*, holds 5": '{"timed_on": 5}',
}  # fmt: skip


@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_record_of_the_comparison_is_one_line(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, told: str
) -> None:
    """It ended in a traceback."""
    config, folder = with_study(tiny_config(), AXES, ProbeConfig(steps=[1])), StudyFolder(tmp_path)
    write_text(folder.probe_settings, DAMAGES[told])
    write_text(folder.probe, "")
    for read in (lambda: refuse_changed_probe(AskedOfStudy(config, folder)), lambda: data_of_probe(folder)):
        with pytest.raises(UserError, match=rf"^{folder.probe_settings}: {told}.*; remove it, probe\.parquet and"):
            read()
