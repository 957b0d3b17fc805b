"""Method optuna: ranks of layers that Optuna's TPE (tree-structured Parzen estimator) proposes, at one cost."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import UserError
from configs.schema import RunConfig
from engine.ranks import controls
from engine.run.opening import Asked
from problems.machine.draws import seed_of

# TPE models the trials that did well against the others, of which there must be some.
_LEAST_BEFORE, _MOST_BEFORE = 2, 10

Scored = tuple[Mapping[str, Any], float | None]
"""The ranks of a trial that is done, and its score on D_val; None where it diverged."""


@dataclass(frozen=True)
class Proposals:
    """What TPE tries next. `sizes`: layer -> LoRA parameters of one component; all of `budget` is spent in each trial,
    and no layer has more than `cap` components.

    A proposal depends on the seed and the trials before it alone: a choice that was interrupted needs no other memory
    than these.
    """

    sizes: Mapping[str, int]
    budget: int
    cap: int
    trials: int
    seed: int

    def next(self, done: Sequence[Scored]) -> dict[str, int]:
        """Layer -> rank: the first trial has uniform ranks, the others what TPE asks for, brought to the budget."""
        weights = self._asked(done) if done else dict.fromkeys(self.sizes, 1)
        return controls.apportioned(weights, self.sizes, self.budget, self.cap, (self.seed, len(done)))

    def _asked(self, done: Sequence[Scored]) -> dict[str, int]:
        import optuna  # slow, and there only where it is asked for

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=min(max(self.trials // 2, _LEAST_BEFORE), _MOST_BEFORE),
            seed=seed_of(self.seed, "optuna", len(done)) % 2**32,
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        space: dict[str, Any] = {name: optuna.distributions.IntDistribution(0, self.cap) for name in self.sizes}
        for ranks, score in done:
            state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
            params = {name: int(ranks[name]) for name in space}
            study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=space, value=score))
        return dict(study.ask(space).params)


def refuse_without_optuna(asked: Asked) -> None:
    """Refuses --method optuna where the package is not installed, before anything is loaded."""
    if asked.stage in ("all", "search") and not asked.folder.metrics.exists():
        refuse_missing_optuna(asked.config)


def refuse_missing_optuna(config: RunConfig) -> None:
    """Raises UserError when a run's method needs a package that is not installed."""
    if config.method == "optuna" and importlib.util.find_spec("optuna") is None:
        raise UserError(
            "--method: optuna is not installed; run: pip install 'optuna>=5.0' (or start with `uv run --extra optuna "
            "run.py`), or take another method"
        )
