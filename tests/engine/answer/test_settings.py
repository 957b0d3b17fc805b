"""Ranks that were chosen by other settings are not taken for the answer that is asked for."""

from collections.abc import Callable

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.answer.settings import ANSWERED, refuse_changed_answer
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder


@pytest.mark.parametrize(
    "change",
    [
        ("--answer.rule", "size"), ("--answer.tolerance", "0.1"), ("--answer.rows", "50"),
        ("--answer.from", "runs/other"),
    ],
    ids=lambda x: x[0],
)  # fmt: skip
def test_another_answer_is_refused_with_the_way_to_it(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str]
) -> None:
    config = tiny_config()
    folder = RunFolder.of(config)
    write_json(folder.answer, {"settings": ANSWERED.of(config), "seconds": 1.0})
    write_text(folder.ranks, "{}")
    refuse_changed_answer(Asked(config, folder))
    changed = tiny_config(*change)
    with pytest.raises(UserError, match=rf"^{change[0]}: .* ranks that were chosen with .*--answer\.from "):
        refuse_changed_answer(Asked(changed, folder))
    refuse_changed_answer(Asked(changed, folder, "retrain"))  # which takes the ranks as they are
    folder.ranks.unlink()
    refuse_changed_answer(Asked(changed, folder))
