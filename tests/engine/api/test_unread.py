"""What a script sets in vain is refused or warned of, as on the command line."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.api import AnswerConfig, HypergradientConfig, SearchConfig, UserError
from autolora.engine.api.unread import tell_unread
from tests.helpers.api import SHORT, classifier, learn, settings

SECTIONS = ("search", "hypergradient", "answer")


def configured(**sections: Any) -> RunConfig:
    return RunConfig(name="learn_ranks", **sections)


def test_a_setting_that_another_overrules_is_refused() -> None:
    config = configured(answer=AnswerConfig(rule="threshold", budget=0.5))
    with pytest.raises(UserError) as caught:
        tell_unread(SECTIONS, config)
    assert str(caught.value) == (
        "--answer.budget: does nothing with --answer.rule threshold, which has no budget; give --answer.rule shares "
        "or size, or leave it out"
    )
    tell_unread(("search", "hypergradient"), config)


def test_settings_that_nothing_reads_are_warned_of_in_one_line_for_each_reason(log_lines: list[str]) -> None:
    hypergradient = HypergradientConfig(type="first_order", eta=0.3, radius=5)
    tell_unread(SECTIONS, configured(hypergradient=hypergradient, search=SearchConfig(patience=3, unroll_steps=2)))
    assert log_lines == [
        "WARNING --search.patience does nothing with --answer.rule shares: only with rule threshold a search stops "
        "early",
        "WARNING --hypergradient.eta does nothing with --hypergradient.type first_order, which means eta = 0",
        "WARNING --hypergradient.radius does nothing with --hypergradient.type first_order, which takes no finite "
        "difference",
    ]


def test_what_is_read_or_at_its_default_is_not_told(log_lines: list[str]) -> None:
    tell_unread(SECTIONS, configured(hypergradient=HypergradientConfig(type="darts", eta=0.3, radius=5)))
    tell_unread(SECTIONS, configured(answer=AnswerConfig(rule="threshold"), search=SearchConfig(patience=3)))
    assert log_lines == []


@pytest.mark.trains
def test_learn_ranks_tells_what_it_was_given(model_folder: Callable[..., Path], log_lines: list[str]) -> None:
    model = classifier(model_folder("bert"))
    with pytest.raises(UserError, match=r"^--answer\.budget: does nothing with --answer\.rule threshold"):
        learn(model, answer=AnswerConfig(rule="threshold", budget=0.5))
    search = dataclasses.replace(SHORT, checkpoint_every=3)
    learn(model, config=settings(r=1), search=search, hypergradient=HypergradientConfig(type="darts", eta=0.3))
    told = [line for line in log_lines if " nothing " in line]
    assert told == [
        "WARNING --hypergradient.eta, --search.selection_learning_rate do nothing with --lora.k 1 and "
        "--search.constraint softmax, where alpha is always 1 (--hypergradient.type none saves the outer steps)",
        "WARNING --search.check_every does nothing with --answer.rule shares: only with rule threshold a search stops "
        "early",
        "WARNING --search.checkpoint_every does nothing in a script, whose search writes no checkpoints",
    ]


@pytest.mark.trains
def test_what_the_program_chose_itself_is_not_told(model_folder: Callable[..., Path], log_lines: list[str]) -> None:
    """Without `search` it takes several inner steps for each outer one; with type none there are no outer steps."""
    learn(classifier(model_folder("bert")), search=None, hypergradient=HypergradientConfig(type="none"))
    assert not [line for line in log_lines if " nothing " in line]
    learn(classifier(model_folder("bert")), search=SHORT, hypergradient=HypergradientConfig(type="none"))
    assert [line for line in log_lines if "--search.selection_learning_rate does nothing" in line]
