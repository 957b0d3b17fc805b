"""FILE.py:CLASS names a class in a file of the user's; what is wrong with it is said in one
line."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.user_class import is_own, user_class

KEY = "hypergradient.type"
NAMES = ("mine.py:Mine", "/a b/c.py:M1", "a:b.py:X", "../x.py:_Y")


def test_the_class_is_found_and_its_file_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = (
        "darts",
        "mine.py",
        "mine.py:",
        ":Mine",
        ".py:Mine",
        "mine.txt:Mine",
        "mine.py:1x",
        "m.py:a.b",
    )
    assert [name for name in (*NAMES, *others) if is_own(name)] == list(NAMES)
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\n\n@dataclasses.dataclass\nclass Mine:\n    second_order: bool = True\n"
    )
    found = user_class(f"{file}:Mine", KEY)
    assert found().second_order
    monkeypatch.chdir(tmp_path)
    assert user_class("mine.py:Mine", KEY) is found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine:\n  1 +", r"cannot be loaded \(SyntaxError: "),
        ("import no_such_module", r"cannot be loaded \(ModuleNotFoundError: No module named"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"^--hypergradient\.type: .*{words}") as refused:
        user_class(f"{file}:Mine", KEY)
    assert "\n" not in str(refused.value)
