"""What a search measured, made up: points of a curve, and the evidence that they belong to."""

from typing import Any

from autolora.engine.measure.evidence import CurvePoint, Evidence


def point(at: float, lost: float, error: float = 0.001, parameters: int = 0) -> CurvePoint:
    """A point at this rank or budget that has lost so many nats of a gain of 0.2."""
    return CurvePoint(at, 0.3 + lost, error, 1 - lost / 0.2, error / 0.2, parameters, error / 0.2)


def evidence_of(**changes: Any) -> Evidence:
    """Evidence of a gain of 0.2 nats at k = 8, with these fields changed."""
    fields: dict[str, Any] = {
        "rows": 1000,
        "sources": 1000,
        "without": "head alone",
        "loss": 0.3,
        "gain": 0.2,
        "gain_standard_error": 0.01,
        "share_total": 0.31,
        "head_share": -0.108,
        "fall": 0.202,
        "nodes": 3,
        "temperature": 1.5,
        "rank_curve": (
            point(1, 0.05),
            point(2, 0.008, parameters=600),
            point(4, 0.001),
            point(8, 0.0, 0.0),
        ),
        "budget_rule": "shares",
        "budget_curve": (
            point(0.25, 0.1, 0.01, 100),
            point(0.5, 0.006, 0.001, 200),
            point(1.0, 0.0, 0.001, 400),
        ),
        "plain_curve": (),
        "uneven_curve": (),
    }
    return Evidence(**(fields | changes))
