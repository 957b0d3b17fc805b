"""A verdict never mixes pairs of other ranks, seeds or plans."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import write_json
from autolora.engine.run.resuming import Outdated
from tests.helpers.methods import LEARNED, NAMES, K
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
@pytest.mark.parametrize("gone", ["ranks.json", "plan.json"])
def test_an_overwrite_that_is_killed_while_it_deletes_mixes_no_pairs_of_other_ranks(
    gone: str, verdict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command deleted first were the ranks, so that the next took the pairs to be trained at its own ranks."""
    _, folder = verdict(FakeLauncher(better(0.3)))

    def killed(path: Path) -> None:
        (path / gone).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            verdict(FakeLauncher(better(0.3)), ranks=LEARNED[::-1], overwrite=True)
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, ranks=LEARNED[::-1])
    assert (found["ending"], len(launcher.trained)) == ("matter", 18)
    assert not [path for path in folder.root.iterdir() if path.name.startswith(".verdict")]


@pytest.mark.trains
def test_pairs_without_the_record_of_their_ranks_or_at_others_are_refused(verdict: Callable[..., Any]) -> None:
    _, folder = verdict(FakeLauncher(better(0.3), stop_after=7))
    path = folder.verdict / "cells" / "pair-02-shuffled" / "metrics.json"
    result = json.loads(path.read_text())
    write_json(path, result | {"source_ranks": {"k": K, NAMES[0]: 3}})
    with pytest.raises(UserError, match=r"pair-02-shuffled: was trained at other ranks than .*/verdict/ranks.json h"):
        verdict(FakeLauncher(better(0.3)))
    write_json(path, result)
    for name in ("ranks.json", "plan.json"):
        record = folder.verdict / name
        content = record.read_text()
        record.unlink()
        with pytest.raises(
            UserError, match=rf"^{record}: is missing beside the pairs in .*; --overwrite trains every"
        ):
            verdict(FakeLauncher(better(0.3)))
        record.write_text(content)
    (folder.verdict / "plan.json").unlink()
    launcher = FakeLauncher(better(0.3))
    verdict(launcher, overwrite=True)
    assert len(launcher.trained) == 18


@pytest.mark.trains
def test_pairs_at_other_seeds_are_refused_until_all_is_trained_again(verdict: Callable[..., Any]) -> None:
    """Also those of a commit that drew the seeds of the pairs in another way."""
    _, folder = verdict(FakeLauncher(better(0.3), stop_after=7))
    with pytest.raises(Outdated, match=r"^--seed: .*/cells/pair-01-learned was trained at the seed \d+, and "):
        verdict(FakeLauncher(better(0.3)), "--seed", "3")
    path = folder.verdict / "cells" / "pair-02-learned" / "metrics.json"
    result = json.loads(path.read_text())
    result["settings"]["seed"] = 2
    write_json(path, result)
    told = r"pair-02-learned was trained at the seed 2, .* --overwrite to train every pair again$"
    with pytest.raises(Outdated, match=told):
        verdict(FakeLauncher(better(0.3)))
    launcher = FakeLauncher(better(0.3))
    verdict(launcher, overwrite=True)
    assert len(launcher.trained) == 18
