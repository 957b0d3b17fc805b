"""Method optuna: Optuna's TPE (tree-structured Parzen estimator) proposes ranks of the layers, all at one cost."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.ranks import controls
from autolora.engine.run.asked import Asked
from autolora.problems.machine.draws import seed_of

# TPE compares good trials with the others. Until enough trials have finished, Optuna draws ranks at random.
_LEAST_BEFORE, _MOST_BEFORE = 2, 10

Scored = tuple[Mapping[str, Any], float | None]
"""The ranks of a finished trial, and its score on D_val; None if it diverged."""


@dataclass(frozen=True)
class Proposals:
    """Proposes the ranks of the next trial, which spend all of `budget` as far as the layers can.

    `sizes`: layer -> LoRA parameters of one component; `cap`: layer -> the most components that it may get. A proposal
    depends only on the seed and the earlier trials, so that these are all that an interrupted choice needs to resume.
    """

    sizes: Mapping[str, int]
    budget: int
    cap: Mapping[str, int]
    trials: int
    seed: int

    def next(self, done: Sequence[Scored]) -> dict[str, int]:
        """Layer -> rank: uniform in the first trial; in later trials as TPE proposes, scaled to spend the budget."""
        weights = self._asked(done) if done else dict.fromkeys(self.sizes, 1)
        return controls.apportioned(weights, self.sizes, self.budget, self.cap, (self.seed, len(done)))

    def _asked(self, done: Sequence[Scored]) -> dict[str, int]:
        import optuna  # a slow import of an optional package

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=min(max(self.trials // 2, _LEAST_BEFORE), _MOST_BEFORE),
            seed=seed_of(self.seed, "optuna", len(done)) % 2**32,
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        space: dict[str, Any] = {name: optuna.distributions.IntDistribution(0, self.cap[name]) for name in self.sizes}
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
