"""What TPE proposes: at the budget, the same after the same trials, and where the good trials were."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from autolora.engine.retrain.trials import Proposals, Scored

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")
SIZES = {f"layer.{i}": 10 if i % 2 else 30 for i in range(6)}


def proposals(seed: int = 0, trials: int = 8, budget: int = 480) -> Proposals:
    return Proposals(SIZES, budget, dict.fromkeys(SIZES, 8), trials, seed)


def played(of: Proposals, score: Callable[[dict[str, int]], float | None], count: int) -> list[Scored]:
    done: list[Scored] = []
    for _ in range(count):
        ranks = of.next(done)
        done.append((ranks, score(ranks)))
    return done


def test_the_first_trial_has_uniform_ranks() -> None:
    assert proposals().next([]) == dict.fromkeys(SIZES, 4)
    assert sum(proposals(budget=70).next([])[name] * size for name, size in SIZES.items()) == 70


@needs_optuna
def test_every_trial_spends_the_budget_within_the_cap() -> None:
    for ranks, _ in played(proposals(), lambda ranks: float(ranks["layer.1"]), 8):
        assert 480 - 30 < sum(ranks[name] * size for name, size in SIZES.items()) <= 480
        assert all(0 <= rank <= 8 for rank in ranks.values())


@needs_optuna
def test_a_narrow_layer_gets_no_more_than_it_can_have() -> None:
    narrow = Proposals(SIZES, 480, dict.fromkeys(SIZES, 8) | {"layer.0": 2}, 8, 0)
    for ranks, _ in played(narrow, lambda ranks: float(ranks["layer.0"]), 8):
        assert ranks["layer.0"] <= 2
        assert 480 - 30 < sum(ranks[name] * size for name, size in SIZES.items()) <= 480


@needs_optuna
def test_a_proposal_follows_from_seed_and_trials_alone() -> None:
    """So that a choice that was killed resumes with the trials that it would have made."""
    whole = played(proposals(), lambda ranks: float(ranks["layer.1"]), 8)
    for cut in range(8):
        assert proposals().next(whole[:cut]) == whole[cut][0]
    other = played(proposals(seed=1), lambda ranks: float(ranks["layer.1"]), 8)
    assert [ranks for ranks, _ in other[1:]] != [ranks for ranks, _ in whole[1:]]
    assert len({tuple(ranks.values()) for ranks, _ in whole}) > 6, "trials differ"


@needs_optuna
def test_it_goes_where_the_good_trials_were() -> None:
    """Three seeds of 24 trials; half of the first ones are drawn at random."""

    def score(ranks: dict[str, int]) -> float:
        return float(ranks["layer.0"] - ranks["layer.2"])

    for seed in range(3):
        scores = [score for _, score in played(proposals(seed, trials=24), score, 24) if score is not None]
        assert sum(scores[-8:]) / 8 > sum(scores[1:9]) / 8 + 1


@needs_optuna
@pytest.mark.parametrize(("trials", "drawn"), [(1, 2), (8, 4), (12, 6), (40, 10)])
def test_half_of_the_trials_are_drawn_at_random_but_two_to_ten(
    monkeypatch: pytest.MonkeyPatch, trials: int, drawn: int
) -> None:
    import optuna

    asked, sampler = [], optuna.samplers.TPESampler

    def make(**options: Any) -> Any:
        asked.append(options["n_startup_trials"])
        return sampler(**options)

    monkeypatch.setattr(optuna.samplers, "TPESampler", make)
    played(proposals(trials=trials), lambda ranks: 1.0, 2)
    assert asked == [drawn]


@needs_optuna
def test_a_trial_that_diverged_teaches_nothing_and_stops_nothing() -> None:
    done = played(proposals(), lambda ranks: None if ranks["layer.0"] > 4 else 1.0, 8)
    assert len(done) == 8
    assert any(score is None for _, score in done)
    scored = [(ranks, -1.0) for ranks, score in done if score is not None][:5]  # such as a correlation below 0
    low, high = (dict.fromkeys(SIZES, rank) for rank in (0, 8))
    assert proposals().next([*scored, (low, None)]) == proposals().next([*scored, (high, None)])
