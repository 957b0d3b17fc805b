"""Commands with bad input: begun in this process, or through the real command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import UserError
from tests.helpers.run_folders import everything

Answer = tuple[int, list[str]]
Command = Callable[..., Answer]
Begin = Callable[..., None]
ROWS = [("the film is dull", "bad"), ("our room is clean", "good")] * 6


def refused(begin: Begin, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """The command is refused before it trains, in one line with these words."""
    with pytest.raises(UserError) as caught:
        begin(*arguments)
    line = str(caught.value)
    assert len(line.splitlines()) == 1, line
    for word in words:
        assert word.replace("{here}", str(tmp_path)) in line


def ends_with_code_2(command: Command, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """The same through the real command, which writes nothing; slower, so for one case of each kind of error."""
    before = everything(tmp_path)
    code, lines = command(*arguments)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word.replace("{here}", str(tmp_path)) in lines[0], lines[0]
    assert everything(tmp_path) == before


def csv(rows: list[tuple[str, str]], header: str = "text,label") -> str:
    """A table of texts and labels, as the content of a file."""
    return "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n"
