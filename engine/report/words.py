"""Numbers and tables as the terminal and the page show them."""

from collections.abc import Mapping, Sequence
from typing import Any


def signed(nats: float) -> str:
    """A difference of losses with its sign."""
    return f"{nats:+z.5f}"


def told_apart(numbers: Sequence[float | None]) -> list[str]:
    """Losses or scores that are compared; "" for None."""
    return ["" if number is None else f"{number:z.5f}" for number in numbers]


def arms_of(verdict: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each arm of a verdict: its ranks, mean loss and score, parameters, and how far its loss lies above
    that of the learned ranks."""
    rows = []
    for arm in verdict.get("arms", []):
        means = [sum(arm[key]) / len(arm[key]) if arm.get(key) else None for key in ("losses", "scores")]
        loss, score = told_apart(means)
        row = {"ranks": arm["name"], "mean loss": loss, verdict.get("metric", ""): score}
        row["LoRA parameters"] = f"{arm['parameters']:,}"
        row["loss above learned"] = "" if arm.get("difference") is None else signed(arm["difference"])
        row["95 % interval"] = " to ".join(map(signed, arm.get("interval") or ()))
        rows.append(row)
    return rows
