"""Results and comparisons that are there belong to their settings; what computes nothing is free."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from configs.errors import UserError
from configs.schema import RunConfig
from engine.disk import checkpoint
from engine.run.folder import RunFolder
from engine.run.resuming import refuse_other_config, refuse_other_probe, refuse_other_results


def half_search(folder: RunFolder) -> None:
    checkpoint.save(folder.search_checkpoint, {"x": torch.ones(1)}, {})


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (("--task.metrics", "[f1_macro]"), True),
        (("--task.evaluation_rows", "9"), True),
        (("--decode.num_beams", "1"), True),
        (("--retrain.epochs", "9"), True),
        (("--search.max_bad_steps", "9"), True),
        (("--decode.batch_size", "1"), False),
        (("--retrain.eval_batch_size", "9"), False),
        (("--search.checkpoint_every", "9"), False),
        (("--export.merged", "true"), False),
        (("--tracking.project", "mine"), False),
    ],
    ids=lambda value: str(value),
)
def test_results_are_of_all_that_they_were_trained_and_measured_with(
    begun: RunFolder, tiny_config: Callable[..., RunConfig], change: tuple[str, str], refused: bool
) -> None:
    if refused:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* was finished with "):
            refuse_other_results(tiny_config(*change), begun)
    else:
        refuse_other_results(tiny_config(*change), begun)


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
    begun: RunFolder, tiny_config: Callable[..., RunConfig], change: tuple[str, ...]
) -> None:
    if PROBED[change]:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* holds a comparison of hypergradients with "):
            refuse_other_probe(tiny_config(*change), begun.config)
    else:
        refuse_other_probe(tiny_config(*change), begun.config)


@pytest.mark.parametrize("content", ["", "seed: [", "- a\n- b"])
def test_a_broken_config_of_the_run_is_one_line(
    begun: RunFolder, tiny_config: Callable[..., RunConfig], content: str
) -> None:
    half_search(begun)
    begun.config.write_text(content)
    with pytest.raises(UserError, match=rf"^{begun.config}: ") as caught:
        refuse_other_config(tiny_config(), begun)
    assert "\n" not in str(caught.value)


def test_how_a_run_is_started_is_free(begun: RunFolder, tiny_config: Callable[..., RunConfig]) -> None:
    half_search(begun)
    distributed = dataclasses.replace(tiny_config(), strategy="distributed")  # parsed, it asks for torchrun
    for check in (refuse_other_config, refuse_other_results):
        check(distributed, begun)
