"""The stages are functions of values: called one after the other, without a folder, they give what
a run leaves in one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.choose import choose
from autolora.engine.inputs import split_of
from autolora.engine.interrupt import Interrupted, StopRequest
from autolora.engine.measure_search import measure_search
from autolora.engine.recipe import algorithm_of, export_of, training_of
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.retrain.methods.lora import AtRanks, PlainLora
from autolora.engine.retrain.retrain import retrain
from autolora.engine.search.search import search
from autolora.engine.search.searched import Searched
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World
from tests.helpers.shell import words
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains

GIVEN = words("--choose.rule shares --measure.rows 20 --measure.curve_ranks [1] --lora.dropout 0.1")


def test_without_a_folder_the_stages_give_what_a_run_leaves(
    tiny_config: Callable[..., RunConfig],
    run_of: type[Stages],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config: Any = tiny_config(*GIVEN)
    folder = run_stages(Request(config, "all"), StopRequest(), draw=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    parts = run_of(config)
    base = parts.lent
    scoring = parts.inputs.scoring
    d_tr, d_val = split_of(config, parts.rows.train)
    algorithm = algorithm_of(config)
    world = parts.world
    batch = config.evaluation_batch
    searched = search(base, d_tr, d_val, scoring, algorithm, world)
    measured = measure_search(
        base, searched, d_tr, d_val, scoring, algorithm, config.measure, world, batch=batch
    )
    scale = config.retrain.scale
    chosen = choose(
        searched, measured, config.choose, scoring, config.lora, scale, config.model, world
    )
    assert chosen.record == ranks.load(folder.ranks)
    form = PlainLora(config.lora, scale, config.model, config.method)
    training = training_of(config, parts.inputs, parts.rows.train)
    method = AtRanks(form, lambda model: chosen.record)
    retrained = retrain(base, method, training, export_of(config, parts.inputs), world)
    model = retrained.trained.model.eval()
    evaluated = evaluate(model, parts.rows, scoring, parts.inputs.tokenizer, world, batch=batch)
    result = json.loads(folder.metrics.read_text())
    of_run = result["metrics"] | {"loss": result["loss"]}
    assert evaluated.metrics == pytest.approx(of_run, rel=1e-6)
    assert retrained.cost["steps"] == result["steps"]["retrain"]
    assert os.listdir() == []


def test_a_search_is_read_back_as_it_was_written(run_of: type[Stages], tiny_config: Any) -> None:
    run = run_of(tiny_config())
    searched = run.search()
    again = Searched.load(run.folder.root)
    for mine, theirs in (
        (searched.weights, again.weights),
        (searched.numbers, again.numbers),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert searched.sizes == again.sizes
    assert list(searched.sizes) == list(again.sizes)
    assert searched.cost == again.cost
    assert searched.peft == again.peft
    assert again.trajectory is not None
    assert searched.trajectory is not None
    assert searched.trajectory.steps == again.trajectory.steps


def test_what_is_not_saved_ends_at_a_signal(run_of: type[Stages], tiny_config: Any) -> None:
    stop = StopRequest()
    stop.code = 130
    run = run_of(tiny_config())
    d_tr, d_val = run.split()
    world = World(run.world.compute, stop=stop)
    with pytest.raises(Interrupted):
        search(run.lent, d_tr, d_val, run.inputs.scoring, run.algorithm, world)


def test_a_stage_begins_after_its_checks(run_of: type[Stages], tiny_config: Any) -> None:
    """What has begun could not be corrected and run again."""
    begun = []
    run = run_of(tiny_config("--hypergradient.type", "nosuch.py:Class"))
    d_tr, d_val = run.split()
    world = World(run.world.compute, begin=lambda: begun.append("search"))
    with pytest.raises(Exception, match=r"nosuch\.py"):
        search(run.lent, d_tr, d_val, run.inputs.scoring, run.algorithm, world)
    assert begun == []
    assert not RunFolder.of(run.config).root.exists()
