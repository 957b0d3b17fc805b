"""How the time of a run divides over its parts."""

from typing import Any


def costs_of(result: dict[str, Any], search: dict[str, Any], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds, steps and share of the time of each stage, of the trials of learning rates, and of the evaluation.

    `result`, `search`, `answer`: metrics.json, search/summary.json and search/answer.json; empty for a stage that has
    not run."""
    seconds = result.get("seconds", {"search": search.get("seconds"), "answer": answer.get("seconds")})
    steps = result.get("steps", {"search": search.get("steps")})
    known = {stage: seconds[stage] for stage in ("search", "answer", "retrain") if seconds.get(stage) is not None}
    for stage, key in (("trials of learning rates", "seconds_sweep"), ("evaluation", "seconds_evaluation")):
        if result.get(key):
            known[stage] = result[key]
    total = sum(known.values()) or 1.0
    return [
        {
            "stage": stage,
            "seconds": f"{spent:,.1f}",
            "steps": f"{steps[stage]:,}" if steps.get(stage) else "",
            "share": spent / total,
        }
        for stage, spent in known.items()
    ]
