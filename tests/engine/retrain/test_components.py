"""A retraining that starts from the components of another run's search."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.record import chosen_components
from autolora.engine.retrain.components import refuse_missing_components
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.run.resuming import Outdated
from autolora.engine.stages import run_stages
from tests.helpers.stopping import StopAt
from tests.helpers.tables import write

pytestmark = pytest.mark.trains

SEARCH = ("--lora.lora_alpha", "6", "--answer.rule", "shares", "--answer.budget", "1", "--answer.rows", "8")
STILL = ("--retrain.init", "search", "--retrain.learning_rate", "1e-12", "--retrain.max_steps", "1")
"""So short a training at so low a rate leaves the weights where they begin."""


@pytest.fixture
def source(finished_run: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    """A finished run whose shares differ from component to component, the last one of each layer being largest."""
    folder = RunFolder(shutil.copytree(finished_run("bert", *SEARCH).root, tmp_path / "runs" / "source"))
    record = ranks.load(folder.ranks)
    layers = tuple(
        dataclasses.replace(layer, rank=rank, share=(0.0, 0.1, 0.2, 0.3), share_standard_error=(0.1,) * 4)
        for layer, rank in zip(record.layers, (2, 1, 0, 1), strict=True)
    )
    ranks.save(dataclasses.replace(record, layers=layers), folder.ranks)
    return folder


def trained(make: Callable[..., RunConfig], source: RunFolder, method: str, *options: str) -> RunFolder:
    """A run of this method, which starts from the components of `source`."""
    config = make("--method", method, *SEARCH[:2], *STILL, "--retrain.init_from", str(source.root), *options)
    return run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)


def check(folder: RunFolder, source: RunFolder, kept: Sequence[Sequence[int]]) -> None:
    """Asserts that the adapter's LoRA matrices A are these components of the source, layer by layer."""
    adapter, weights = load_file(folder.adapter / "adapter_model.safetensors"), load_file(source.search_weights)
    for layer, chosen in zip(ranks.load(source.ranks).layers, kept, strict=True):
        name = f"base_model.model.{layer.name}.lora_A"
        assert (f"{name}.weight" in adapter) is bool(len(chosen))
        if chosen:
            torch.testing.assert_close(adapter[f"{name}.weight"], weights[f"{name}.default.weight"][list(chosen)])


@pytest.mark.parametrize(
    ("method", "options", "kept"),
    [
        ("lora_ranks", ("--lora.ranks_from", "{runs}/source"), [[2, 3], [3], [], [3]]),
        ("lora", ("--lora.r", "2"), [[2, 3]] * 4),
    ],
)
def test_each_layer_keeps_the_components_that_the_searching_run_would_keep(
    tiny_config: Callable[..., RunConfig],
    source: RunFolder,
    method: str,
    options: Sequence[str],
    kept: list[list[int]],
) -> None:
    check(trained(tiny_config, source, method, *options), source, kept)


@pytest.mark.parametrize("method", ["lora_shuffled", "lora_random"])
def test_a_control_keeps_the_best_components_of_its_own_layers(
    tiny_config: Callable[..., RunConfig], source: RunFolder, method: str
) -> None:
    folder = trained(tiny_config, source, method, "--lora.ranks_from", "{runs}/source")
    own, searched = ranks.load(folder.ranks), ranks.load(source.ranks)
    assert own.ranks != searched.ranks
    check(folder, source, [list(range(4 - layer.rank, 4)) for layer in own.layers])


def test_the_rule_of_the_searching_run_decides_which_components_are_best() -> None:
    layer = LayerRank("a", 2, share=(0.1, 0.0, 0.3))
    assert chosen_components(layer, RankRecord(3, (layer,), rule="shares")) == [0, 2]
    assert chosen_components(layer, RankRecord(3, (layer,), rule="size")) == [0, 1]


@pytest.mark.parametrize("gone", ["search/summary.json", "search/weights.safetensors", "ranks.json"])
def test_a_run_without_a_search_is_one_line(
    tiny_config: Callable[..., RunConfig], source: RunFolder, gone: str
) -> None:
    (source.root / gone).unlink()
    with pytest.raises(UserError, match=rf"^--retrain\.init_from: .* has no {gone}; allowed: the folder of a run"):
        trained(tiny_config, source, "lora")
    assert not RunFolder.of(tiny_config()).root.exists()


def test_components_at_another_scale_are_refused(tiny_config: Callable[..., RunConfig], source: RunFolder) -> None:
    with pytest.raises(Outdated, match=r"^--lora\.lora_alpha: .* that were searched with 6.*--retrain\.init scratch$"):
        trained(tiny_config, source, "lora", "--lora.lora_alpha", "8")


def test_a_k_that_the_search_did_not_have_is_refused(tiny_config: Callable[..., RunConfig], source: RunFolder) -> None:
    with pytest.raises(UserError, match=r"^--retrain\.init: 'search' needs k = 4 .*, but k is 8"):
        trained(tiny_config, source, "lora", "--lora.k", "8")


def test_a_rank_above_k_is_refused(tiny_config: Callable[..., RunConfig], source: RunFolder) -> None:
    with pytest.raises(UserError, match=r"^--retrain\.init: 'search' is not allowed for .* at rank 5"):
        trained(tiny_config, source, "lora", "--lora.r", "5")


def test_components_of_other_classes_are_refused(tiny_config: Callable[..., RunConfig], source: RunFolder) -> None:
    """Their head would answer with the wrong classes."""
    summary = json.loads(source.search_summary.read_text())
    summary["data"]["classes"].reverse()
    source.search_summary.write_text(json.dumps(summary))
    with pytest.raises(Outdated, match=r"no longer has the classes that the components in .*source were searched on"):
        trained(tiny_config, source, "lora")


def test_components_of_other_rows_are_refused(tiny_config: Callable[..., RunConfig], source: RunFolder) -> None:
    """Rows that are evaluated now could be among those on which the components were trained."""
    with pytest.raises(
        Outdated, match=r"no longer gives the training rows that the components in .*--task\.seed keeps"
    ):
        trained(tiny_config, source, "lora", "--task.train_rows", "30")


@pytest.mark.parametrize(
    ("options", "key"),
    [(("--seed", "1"), "task.seed"), (("--task.validation_share", "0.3"), "task.validation_share")],
)
def test_a_rate_is_not_chosen_on_rows_that_trained_the_components(
    tiny_config: Callable[..., RunConfig], source: RunFolder, options: Sequence[str], key: str
) -> None:
    rates = ("--retrain.learning_rates", "[1e-3,1e-2]")
    with pytest.raises(Outdated, match=rf"^--{key}: .*source divided the rows into D_tr and D_val with"):
        trained(tiny_config, source, "lora", *options, *rates)
    trained(tiny_config, source, "lora", "--seed", "1", "--task.seed", "0", *rates)


def test_a_rate_is_not_chosen_on_halves_that_are_divided_in_another_way(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Rows with one text stay together by source, and may be in both halves by row."""
    source = RunFolder(tmp_path / "runs" / "source")
    ranks.save(RankRecord(4, (LayerRank("a", 1),)), source.ranks)
    source.search_weights.parent.mkdir()
    source.search_weights.touch()
    data = write(tmp_path / "d.csv", {"text": ["a", "b"], "label": ["x", "y"]})
    table = ("--task.type", "text", "--task.path", str(data), "--task.split_by", "row")
    start = ("--retrain.init", "search", "--retrain.init_from", str(source.root))
    config = tiny_config("--method", "lora", *start, *table, "--retrain.learning_rates", "[1e-3,1e-2]")
    for then in ("row", "source"):
        write_json(source.search_summary, {"parameters_per_rank": {}, "settings": {"task.split_by": then}})
        if then == "row":
            refuse_missing_components(Asked(config, RunFolder.of(config)))
    with pytest.raises(
        Outdated, match=r"^--task\.split_by: .* divided the rows into D_tr and D_val with 'source', now"
    ):
        refuse_missing_components(Asked(config, RunFolder.of(config)))


def test_overwriting_a_run_checks_the_components_again(
    tiny_config: Callable[..., RunConfig], source: RunFolder
) -> None:
    """A finished run was replaced by one with components at four times their scale."""
    folder = trained(tiny_config, source, "lora")
    config = tiny_config(
        "--method", "lora", *STILL, "--lora.lora_alpha", "24", "--retrain.init_from", str(source.root)
    )
    with pytest.raises(Outdated, match=r"^--lora\.lora_alpha: .* searched with 6"):
        run_stages(Request(config, "all", True, "x"), StopRequest(), draw=False)
    assert folder.metrics.exists()


@pytest.mark.parametrize(("work", "asked"), [("sweep of learning rates", 7), ("half-done retraining", 3)])
def test_half_done_work_does_not_resume_from_components_of_another_search(
    tiny_config: Callable[..., RunConfig], source: RunFolder, work: str, asked: int
) -> None:
    """Half of a sweep's trials would start from the old components, half from the new ones."""
    rates = ("--retrain.learning_rates", "[1e-3,1e-2]") if "sweep" in work else ()
    steps = ("--retrain.max_steps", "4", "--retrain.init_from", str(source.root))
    config = tiny_config("--method", "lora", *SEARCH[:2], *STILL[:2], *steps, *rates)
    request = Request(config, "all", False, "x")
    with pytest.raises(Interrupted):
        run_stages(request, StopAt(RunFolder.of(config), asked), draw=False)
    weights = load_file(source.search_weights)
    save_file({name: value + 1 for name, value in weights.items()}, source.search_weights)
    with pytest.raises(
        Outdated, match=rf"^--retrain\.init_from: .*source has other components than those that the {work}"
    ):
        run_stages(request, StopRequest(), draw=False)
    save_file(weights, source.search_weights)
    assert run_stages(request, StopRequest(), draw=False).metrics.exists()


def test_the_result_tells_which_components_the_training_started_from(
    tiny_config: Callable[..., RunConfig], source: RunFolder
) -> None:
    result = json.loads(trained(tiny_config, source, "lora").metrics.read_text())
    assert result["source_components"] == hashlib.sha256(source.search_weights.read_bytes()).hexdigest()


def test_components_in_another_base_model_are_refused(
    tiny_config: Callable[..., RunConfig], source: RunFolder
) -> None:
    summary = json.loads(source.search_summary.read_text())
    summary["data"]["weights"] = "0" * 64
    source.search_summary.write_text(json.dumps(summary))
    with pytest.raises(
        Outdated, match=r"no longer has the weights that the components in .* were searched with; bring"
    ):
        trained(tiny_config, source, "lora")


def test_a_run_does_not_overwrite_the_search_that_it_starts_from(
    tiny_config: Callable[..., RunConfig], source: RunFolder
) -> None:
    config = tiny_config("--method", "lora", *STILL, "--name", "source", "--retrain.init_from", "{runs}/source")
    with pytest.raises(UserError, match="would overwrite"):
        run_stages(Request(config, "all", True, "x"), StopRequest(), draw=False)
    assert source.search_weights.exists()
