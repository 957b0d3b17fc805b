"""The sentences of a verdict, and what it recommends."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.verdict.arms import Arms
from autolora.engine.verdict.folder import VerdictFolder
from autolora.engine.verdict.judge import PLANS, Ending, Pairs
from autolora.engine.verdict.words import SECOND_TEST, enough, recommendation, sentence, unchanged
from tests.helpers.evidence import evidence_of
from tests.helpers.markdown import text_of
from tests.helpers.places import ROOT


def pairs_of(mean: float, spread: float, count: int, gain: float) -> Pairs:
    """Differences on both sides of a mean."""
    signs = np.where(np.arange(count) % 2, 1.0, -1.0)
    return Pairs(mean + spread * signs, 0.0, gain, gain / 10)


def said(ending: Ending, pairs: Pairs, most: int = 24) -> str:
    arms: Any = SimpleNamespace(parameters=10368, uniform_rank=1, plan=PLANS[most])
    return sentence(ending, pairs, arms, compared=False)


def test_the_sentences_are_those_that_the_documentation_shows() -> None:
    shown = said("matter", pairs_of(0.030, 0.0095, 8, 0.176))
    assert shown == (
        "Places matter: learned beats its shuffle by 0.030 nats, 17 % of what LoRA gains (0.022 to 0.038; 8 pairs, "
        "p 0.0039), at 10,368 parameters."
    )
    assert shown in text_of(ROOT / "docs" / "verdict.md")
    assert said("worse", pairs_of(-0.030, 0.0095, 8, 0.176)).startswith(
        "Do not use these places: the shuffle beats learned by 0.030 nats, 17 % of what LoRA gains (0.022 to 0.038;"
    )
    assert said("matter", pairs_of(0.0094, 0.002, 8, 0.698)).startswith(
        "Places matter, but little: learned beats its shuffle by 0.009 nats, 1.3 % of what LoRA gains (0.008 to 0.011;"
    )
    assert said("worse", pairs_of(-0.0094, 0.002, 8, 0.698)).startswith(
        "Do not use these places, though they cost little: the shuffle beats learned by 0.009 nats, 1.3 % of what "
    )
    between = "After 10 pairs the difference lies between -0.006 and 0.014 nats."
    assert said("undecided", pairs_of(0.004, 0.0135, 10, 0.2)) == between


@pytest.mark.parametrize("ending", ["matter", "worse", "equal", "undecided"])
def test_small_numbers_are_not_written_as_zeros(ending: Ending) -> None:
    mean = {"matter": 0.0003, "worse": -0.0003}.get(ending, 0.00001)
    text = said(ending, pairs_of(mean, 0.00005, 16, 0.005))
    assert "0.000 " not in text.replace(",", " ")
    assert "0.0000 " not in text
    nothing = Pairs(np.array([0.00003, 0.00003]), 0.0, 0.00024, 0.0002)
    assert "lowers the loss by 0.00024 +- 0.00020 nats" in said("undecided", nothing)
    worse = dataclasses.replace(nothing, gain=-0.00024)
    assert "raises the loss by 0.00024 +- 0.00020 nats" in said("undecided", worse)
    one = dataclasses.replace(nothing, gain_error=0.0, differences=np.array([0.00003]))
    assert "is 0.000030 nats" in said("undecided", one)


@pytest.mark.parametrize(
    ("ending", "count", "told"),
    [
        ("matter", 8, "Use these ranks."),
        ("worse", 8, "Do not use these ranks; take rank 2 in every layer."),
        ("equal", 16, "Choose by cost alone: keep these ranks, which have 256 parameters, or take rank 2 in every "),
        ("undecided", 8, "The same command trains further pairs; until then, take rank 2 in every layer."),
        ("undecided", 24, f"No more than 24 pairs are trained. {SECOND_TEST} To be safe, take rank 2 in every layer."),
        ("undecided", 0, "Choose by cost alone: keep these ranks, which have 256 parameters, or take rank 2 in "),
    ],
)
def test_each_ending_says_what_to_do_with_the_ranks(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, ending: Ending, count: int, told: str
) -> None:
    record = RankRecord(4, (LayerRank("a", 1), LayerRank("b", 3)))
    arms = Arms(tiny_config("--verdict.pairs", "24"), VerdictFolder(tmp_path), record, {"a": 64, "b": 64}, 1e-3)
    pairs = pairs_of(0.001, 0.01, count, 0.2) if count else None
    assert recommendation(ending, pairs, arms).startswith(told)


def test_few_rows_are_said_beside_the_rank_that_is_enough() -> None:
    many, few = (RankRecord(4, (), evidence=evidence_of(sources=sources)) for sources in (1000, 20))
    assert enough(many) == "By the curve on D_val, rank 2 everywhere is enough."
    assert enough(few) == "By the curve on D_val (on few rows), rank 2 everywhere is enough."
    largest = RankRecord(2, (), evidence=evidence_of())
    assert enough(largest) == "By the curve on D_val, no rank below 2 is enough."


def untested(record: RankRecord, largest: dict[str, int] | None = None) -> str:
    sizes = {layer.name: 64 for layer in record.layers}
    return unchanged(Arms(parse(["--name", "a"]).config, VerdictFolder(Path("a")), record, sizes, 1e-3, largest))


def test_ranks_that_a_shuffle_cannot_exchange_are_not_called_indifferent() -> None:
    differing = RankRecord(8, (LayerRank("query", 2), LayerRank("dense", 8)))
    by_size = SimpleNamespace(record=differing, sizes={"query": 64, "dense": 80}, config=parse(["--name", "a"]).config)
    assert unchanged(by_size) == (  # type: ignore[arg-type]
        "Not tested: all layers of one size have equal ranks, so that a shuffle changes nothing; whether it matters "
        "which size has which rank is not known. No pair was trained."
    )
    assert untested(differing, {"query": 4, "dense": 32}) == (
        "Not tested: all layers of one size that differ in rank are too narrow for each other's ranks, so that a "
        "shuffle changes nothing; whether it matters which layer has which rank is not known. No pair was trained."
    )


def test_ranks_without_another_placement_are_called_untested() -> None:
    """ "Places do not matter here" and "no places can matter" claimed what nothing had tested."""
    equal = RankRecord(8, (LayerRank("query", 4), LayerRank("dense", 4)))
    assert untested(equal) == (
        "Not tested: every layer has rank 4, so there is no other placement to compare. No pair was trained."
    )
    layers = (LayerRank("query", 1), LayerRank("dense", 1))
    assert untested(RankRecord(8, layers, rule="shares", evidence=evidence_of(gain=0.0))) == (
        "Not tested: LoRA has not learned anything that shows on D_val, so that every layer got rank 1 and there is "
        "no other placement to compare. No pair was trained."
    )


def test_after_one_pair_nothing_is_said_of_the_gain_which_another_seed_changes() -> None:
    one = Pairs(np.array([0.01]), 0.0, 0.02, 0.015)
    assert said("undecided", one).startswith("After 1 pair the difference is ")
    two = Pairs(np.array([0.01, 0.01]), 0.0, 0.02, 0.015)
    assert said("undecided", two).startswith("Nothing to gain: ")


def test_a_part_of_the_gain_is_told_only_if_there_is_a_gain() -> None:
    """Where the shuffle alone gains, 0.308 nats were "4,400 % of what LoRA gains"."""
    pairs = Pairs(np.full(8, -0.308), 0.001, 0.007, 0.005)
    assert said("worse", pairs).startswith("Do not use these places: the shuffle beats learned by 0.308 nats (0.")
    assert said("undecided", pairs).startswith("After 8 pairs the difference lies between -0.3"), "places matter here"


def test_an_interval_without_0_that_decides_nothing_is_explained() -> None:
    """95 % leave 0 out, but the looks ask for more; "between 0.0001 and 0.0088 nats" alone was a riddle."""
    differences = np.full(16, 0.005) + np.where(np.arange(16) % 2, 0.009, -0.009)
    pairs = Pairs(differences, 0.0, 0.5, 0.01)
    low, _ = pairs.interval()
    assert low > 0
    told = said("undecided", pairs)
    assert ", but a verdict after 16 pairs needs p at most 0.006 and an interval of 98.8 % that leaves out 0" in told
    assert f"(p is {pairs.p():.2g} now)" in told
    assert "after 16 pairs needs p at most 0.017 and an interval of 96.6 %" in said("undecided", pairs, most=16)
    assert "but a verdict" not in said("undecided", Pairs(differences - 0.004, 0.0, 0.5, 0.01))


@pytest.mark.parametrize(
    ("loss", "told"),
    [(0.01, "the head alone already solves this task; LoRA is not needed."), (0.3, "train longer, at another rate, ")],
)
def test_of_a_task_that_the_head_alone_solves_no_longer_training_is_recommended(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, loss: float, told: str
) -> None:
    record = RankRecord(8, (LayerRank("a", 1), LayerRank("b", 1)), evidence=evidence_of(loss=loss, gain=0.0))
    arms = Arms(tiny_config(), VerdictFolder(tmp_path), record, {"a": 8, "b": 8}, 1e-3)
    worthless = Pairs(np.full(8, 0.001), 0.0, 0.001, 0.01)
    said = recommendation("undecided", worthless, arms)
    assert said.startswith(f"LoRA does nothing for these rows: {told}")
