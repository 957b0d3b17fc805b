"""What TPE proposes: at the budget, the same after the same trials, and where the good trials
were."""

from collections.abc import Callable, Mapping

import pytest

from autolora.engine.retrain.trials import apportioned, asked

SIZES = {f"layer.{i}": 10 if i % 2 else 30 for i in range(6)}
CAP = dict.fromkeys(SIZES, 8)
Scored = tuple[Mapping[str, int], float | None]


def proposal(
    done: list[Scored], trials: int = 8, seed: int = 0, cap: Mapping[str, int] = CAP
) -> dict[str, int]:
    weights = asked(done, cap, trials, seed) if done else dict.fromkeys(SIZES, 1)
    return apportioned(weights, SIZES, 480, cap)


def played(
    score: Callable[[dict[str, int]], float | None],
    count: int,
    trials: int = 8,
    seed: int = 0,
    cap: Mapping[str, int] = CAP,
) -> list[Scored]:
    pytest.importorskip("optuna")
    done: list[Scored] = []
    for _ in range(count):
        ranks = proposal(done, trials, seed, cap)
        done.append((ranks, score(ranks)))
    return done


def test_ranks_in_proportion_to_weights_go_by_highest_averages() -> None:
    """The usual example of D'Hondt's method; other divisors (1, 3, 5) would give 3, 3, 1 and 1."""
    weights = {"a": 100, "b": 80, "c": 30, "d": 20}
    alike = dict.fromkeys(weights, 10)
    cap = dict.fromkeys(weights, 8)
    assert apportioned(weights, alike, 80, cap) == {"a": 4, "b": 3, "c": 1, "d": 0}
    assert apportioned(dict.fromkeys(SIZES, 1), SIZES, 480, CAP) == dict.fromkeys(SIZES, 4)


@pytest.mark.parametrize("cap", [CAP, CAP | {"layer.0": 2}])
def test_every_trial_spends_the_budget_within_what_a_layer_can_have(cap: dict[str, int]) -> None:
    for ranks, _ in played(lambda ranks: float(ranks["layer.1"]), 8, cap=cap):
        assert 480 - 30 < sum(ranks[name] * size for name, size in SIZES.items()) <= 480
        assert all(0 <= rank <= cap[name] for name, rank in ranks.items())


def test_a_proposal_follows_from_seed_and_trials_alone() -> None:
    """So that a choice that was killed resumes with the trials that it would have made."""
    whole = played(lambda ranks: float(ranks["layer.1"]), 8)
    for cut in range(8):
        assert proposal(whole[:cut]) == whole[cut][0]
    other = played(lambda ranks: float(ranks["layer.1"]), 8, seed=1)
    assert [ranks for ranks, _ in other[1:]] != [ranks for ranks, _ in whole[1:]]
    assert len({tuple(ranks.values()) for ranks, _ in whole}) > 6, "trials differ"


def test_it_goes_where_the_good_trials_were() -> None:
    """Three seeds of 24 trials; half of the first ones are drawn at random."""

    def score(ranks: dict[str, int]) -> float:
        return float(ranks["layer.0"] - ranks["layer.2"])

    for seed in range(3):
        scores = [score for _, score in played(score, 24, 24, seed) if score is not None]
        assert sum(scores[-8:]) / 8 > sum(scores[1:9]) / 8 + 1


def test_a_trial_that_diverged_teaches_nothing_and_stops_nothing() -> None:
    done = played(lambda ranks: None if ranks["layer.0"] > 4 else 1.0, 8)
    assert len(done) == 8
    assert any(score is None for _, score in done)
    scored: list[Scored] = [(ranks, -1.0) for ranks, score in done if score is not None][:5]
    low, high = (dict.fromkeys(SIZES, rank) for rank in (0, 8))
    assert proposal([*scored, (low, None)]) == proposal([*scored, (high, None)])
