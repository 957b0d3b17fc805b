"""Which metrics each kind of task has, in the order they are shown, and which of them need Java."""

from collections.abc import Sequence
from difflib import get_close_matches

from autolora.configs.errors import UserError
from autolora.configs.tasks import OFFICIAL, plain_name
from autolora.problems.scoring.java import require_java
from autolora.problems.scoring.ner import MEASURES

METRICS: dict[str, tuple[str, ...]] = {**OFFICIAL, "ner": MEASURES}
# ROUGE_L and CIDEr are plain Python, but the official script feeds them Stanford's PTB tokens.
NEEDS_JAVA = {"e2e": ("METEOR", "ROUGE_L", "CIDEr"), "webnlg": ("METEOR",), "ner": ()}


def check_metrics(kind: str, metrics: Sequence[str] | None = None, option: str = "--task.metrics") -> tuple[str, ...]:
    """The metrics to compute (None: all), spelt as the official scripts do; to be called before any work.

    Capitals do not matter and a hyphen is as good as an underscore ("rouge-l"). Raises UserError on an unknown kind
    or metric, and when a metric needs Java and no Java is found; this message names the `option` that chooses metrics.
    """
    if kind not in METRICS:
        raise UserError(f"score: unknown kind {kind!r}; allowed: {', '.join(METRICS)}")
    known = {plain_name(name): name for name in METRICS[kind]}
    chosen = [_resolve(kind, name, known) for name in (METRICS[kind] if metrics is None else metrics)]
    if not chosen:
        raise UserError(f"metrics: none given; allowed for {kind}: {', '.join(METRICS[kind])}")
    needing = [name for name in METRICS[kind] if name in chosen and name in NEEDS_JAVA[kind]]
    if needing:
        require_java(", ".join(needing), option)
    return tuple(name for name in METRICS[kind] if name in chosen)


def _resolve(kind: str, name: str, known: dict[str, str]) -> str:
    """The official spelling of one metric."""
    if plain_name(name) in known:
        return known[plain_name(name)]
    near = get_close_matches(plain_name(name), known, n=1)
    hint = f" (nearest: {known[near[0]]})" if near else ""
    raise UserError(f"metrics: unknown {name!r}{hint}; allowed for {kind}: {', '.join(known.values())}")
