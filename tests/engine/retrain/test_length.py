"""How long a retraining is, known before it begins (that the trainer takes these steps: methods/test_adalora.py)."""

import pytest

from autolora.configs.schema import RetrainConfig
from autolora.engine.retrain.length import length_of


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (RetrainConfig(batch_size=16), "3 epochs (15 steps)"),
        (RetrainConfig(batch_size=16, epochs=1.0), "1 epoch (5 steps)"),
        (RetrainConfig(batch_size=16, epochs=0.5), "0.5 epochs (3 steps)"),
        (RetrainConfig(batch_size=16, gradient_accumulation=2), "3 epochs (9 steps)"),
        (RetrainConfig(batch_size=16, max_steps=12), "2.4 epochs (12 steps)"),
        (RetrainConfig(batch_size=16, epochs=9.0, max_steps=5000), "1,000 epochs (5,000 steps)"),
        (RetrainConfig(batch_size=1, max_steps=8), "0.1 epochs (8 steps)"),
        (RetrainConfig(batch_size=1, max_steps=1), "0.013 epochs (1 step)"),
        (RetrainConfig(batch_size=10**9, max_steps=3), "3 epochs (3 steps)"),
    ],
)
def test_the_log_says_epochs_and_steps(settings: RetrainConfig, words: str) -> None:
    assert length_of(settings, 80).words() == words
