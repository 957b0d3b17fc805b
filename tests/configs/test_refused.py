"""Betty names a method that it does not have; the refusal says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.cli import parse
from configs.errors import UserError


def refusal(arguments: list[str]) -> str:
    with pytest.raises(UserError) as error:
        parse(arguments)
    return str(error.value)


def test_reinforce_is_refused_with_the_reason() -> None:
    message = refusal(["--hypergradient.type", "reinforce"])
    assert "--hypergradient.type: 'reinforce' is not allowed (Betty 0.2.1 leaves it unfinished" in message
    assert "allowed: first_order, darts, " in message
    assert "\n" not in message


def test_also_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("hypergradient:\n  type: reinforce\n")
    assert "Betty 0.2.1 leaves it unfinished" in refusal(["--config", str(file)])


def test_other_unknown_names_get_no_reason() -> None:
    message = refusal(["--hypergradient.type", "reinforced"])
    assert message.startswith("--hypergradient.type: 'reinforced' is not allowed; allowed: ")


@pytest.mark.parametrize(("strategy", "reason"), [("zero", "a few MB"), ("fsdp", "splits the parameters")])
def test_bettys_sharding_is_refused_with_the_reason(strategy: str, reason: str) -> None:
    message = refusal(["--strategy", strategy])
    assert message.startswith(f"--strategy: '{strategy}' is not allowed (Betty's")
    assert reason in message
    assert message.endswith("allowed: auto, distributed")


def test_distributed_needs_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torchrun --nproc-per-node" in refusal(["--strategy", "distributed"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert parse(["--strategy", "distributed"]).config.strategy == "distributed"
