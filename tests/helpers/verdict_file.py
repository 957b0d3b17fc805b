"""What verdict.json of a verdict that ended after three pairs holds."""

from typing import Any

FOUND: dict[str, Any] = {
    "ending": "matter", "sentence": "Places matter: by a lot.", "pairs": 3, "recommendation": "Use these ranks.",
    "difference": 0.2, "interval": [0.1, 0.3], "gain": 1.0,
    "metric": "accuracy",
    "arms": [
        {"name": "learned", "losses": [0.5, 0.6, 0.4], "scores": [0.9, 0.8, 0.7], "parameters": 100},
        {"name": "shuffled", "losses": [0.7, 0.7, 0.7], "scores": [0.5, 0.5, 0.5], "parameters": 100,
         "difference": 0.2, "interval": [0.1, 0.3], "p": None},
        {"name": "uniform", "losses": [0.4, 0.6, 0.3], "scores": [0.5, 0.5, 0.5],
         "parameters": 400, "difference": -0.067, "interval": None},
    ],
}  # fmt: skip
