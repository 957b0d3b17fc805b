"""Each rank record has one owner: the method that writes it, and nobody else takes it for its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.facts import WITHOUT_LORA
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.owners import OWNERS, READ_RANKS, refuse_other_ranks
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder


def test_every_method_that_writes_lora_owns_its_record_and_no_rule_has_two_owners() -> None:
    assert sorted(OWNERS.values()) == sorted(METHODS.keys() - WITHOUT_LORA - {"autolora"})
    assert set(OWNERS.values()) >= set(READ_RANKS)


@pytest.mark.parametrize(
    ("method", "rule", "taken"),
    [
        ("autolora", "shares", True), ("autolora", "by hand", True), ("autolora", "eva", False),
        ("para", "para", True), ("para", "threshold", False), ("lora", "eva", False),
    ],
)  # fmt: skip
def test_a_record_of_another_method_is_refused(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, method: str, rule: str, taken: bool
) -> None:
    folder = RunFolder(tmp_path / "run")
    write_json(folder.ranks, {"k": 4, "rule": rule, "layers": [{"name": "a.0.query", "rank": 2}]})
    asked = Asked(tiny_config("--method", method), folder)
    if taken:
        refuse_other_ranks(asked)
        return
    with pytest.raises(UserError, match=rf"^--method: .*ranks of rule '{rule}', which another method wrote"):
        refuse_other_ranks(asked)
