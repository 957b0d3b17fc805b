"""The stages are functions of values: called one after the other, without a folder, they give what
a run leaves in one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification

from autolora import learn_ranks
from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import measure_search as measuring
from autolora.engine import ranks
from autolora.engine.api import learning
from autolora.engine.choose import choose
from autolora.engine.inputs import split_of
from autolora.engine.interrupt import Interrupted, StopRequest
from autolora.engine.measure_search import measure_search
from autolora.engine.methods import form_of, method_of
from autolora.engine.recipe import algorithm_of, export_of, training_of, trial_of
from autolora.engine.retrain import fit
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.retrain.methods.lora import AtRanks, PlainLora
from autolora.engine.retrain.retrain import retrain
from autolora.engine.retrain.saved import saved_model
from autolora.engine.retrain.trials import try_ranks
from autolora.engine.search import engine
from autolora.engine.search.search import search
from autolora.engine.search.searched import Searched
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World
from autolora.problems.rows import Rows
from tests.helpers.retraining import FEW, with_ranks
from tests.helpers.retraining import retrain as retrain_at_ranks
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
    spent = result["seconds"]
    parts_of = [spent[stage] for stage in ("search", "measure", "retrain")]
    assert min(parts_of) > 0
    assert spent["total"] == pytest.approx(sum(parts_of))
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


def test_ranks_that_were_written_by_hand_stay_as_they_are(tiny_config: Any) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.max_steps", "1"))
    written = folder.ranks.read_bytes()
    retrain_at_ranks(config)
    assert folder.metrics.exists()
    assert folder.ranks.read_bytes() == written


def test_other_trainers_get_what_only_the_loaded_base_tells(
    run_of: type[Stages], tiny_config: Any
) -> None:
    """GPT-2's layers hold their weights transposed."""
    run = run_of(tiny_config("--lora.target_modules", "[c_attn]", kind="gpt2"))
    run.find_ranks()
    settings = json.loads((run.folder.lora_config / "adapter_config.json").read_text())
    assert settings["fan_in_fan_out"] is True


def test_blocks_are_recomputed_in_each_stage_where_the_settings_ask_for_it(
    run_of: type[Stages], tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for module in (engine, measuring, fit):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "recompute_blocks", lambda _, name=name: asked.append(name))
    run = run_of(tiny_config(*GIVEN, "--model.gradient_checkpointing", "true"))
    run.find_ranks()
    method = method_of(run.config, run.folder)
    retrain(run.lent, method, run.training, export_of(run.config, run.inputs), run.world)
    assert asked == ["engine", "measure_search", "fit"]


def test_a_trained_model_that_is_gone_is_not_the_base(
    run_of: type[Stages], tiny_config: Any, tmp_path: Path
) -> None:
    """A verdict keeps no weights of its trainings; evaluated again, one would count as LoRA's."""
    base: Any = run_of(tiny_config()).lent
    cost = {"label_scale": None, "trainable_parameters": 0}
    assert saved_model(base, tmp_path, cost) is not None
    with pytest.raises(UserError, match=r"no trained model any more; --stage retrain"):
        saved_model(base, tmp_path, {**cost, "trainable_parameters": 8})


def test_trials_of_ranks_follow_from_the_seed(run_of: type[Stages], tiny_config: Any) -> None:
    """The head that all trials start from, too, whatever was drawn before."""
    grid = words("--method lora_grid --lora.grid [1,2] --lora.target_modules [query]")
    done = []
    for number, before in enumerate((1, 2)):
        run = run_of(tiny_config(*grid, "--retrain.max_steps", "2", "--name", f"n{number}"))
        trial, d_val = trial_of(run.config, run.inputs)
        form = form_of(run.config, run.folder)
        torch.manual_seed(before)
        with run.lent.loaded_once():
            tried = try_ranks(
                run.lent, run.config.lora, form, trial, d_val, run.at("grid"), batch=64
            )
        done.append([made["metrics"] for made in tried.trials.done])
    assert done[0] == done[1]


def test_an_edit_of_ranks_while_they_are_trained_at_stays(
    run_of: type[Stages], tiny_config: Any
) -> None:
    run = run_of(tiny_config("--retrain.max_steps", "1"))
    run.find_ranks()
    method = method_of(run.config, run.folder)
    export = export_of(run.config, run.inputs)
    retrained = retrain(run.lent, method, run.training, export, run.world)
    content = json.loads(run.folder.ranks.read_text())
    content["layers"][0]["rank"] += 1
    run.folder.ranks.write_text(json.dumps(content))
    retrained.save(run.folder.root)
    assert json.loads(run.folder.ranks.read_text()) == content


class Called(Exception):
    """What a script's search is given."""


def test_a_script_gives_its_search_what_it_has(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one text on one side, and blocks that are recomputed as the model recomputes them."""

    def given(base: Any, d_tr: Rows, d_val: Rows, scoring: Any, algorithm: Any, world: Any) -> None:
        raise Called(d_tr, d_val, algorithm)

    monkeypatch.setattr(learning, "search_of", given)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"))
    model.gradient_checkpointing_enable()
    rows = [{"input_ids": [1, 5 + i % 8, 2], "labels": i % 2} for i in range(32)]

    def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in examples]) for key in examples[0]}

    lora = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
    with pytest.raises(Called) as called:
        learn_ranks(model, rows, lora, collate=collate)
    d_tr, d_val, algorithm = called.value.args
    assert (len(d_tr), len(d_val)) == (16, 16)
    assert not set(d_tr.groups) & set(d_val.groups)
    assert algorithm.recompute
