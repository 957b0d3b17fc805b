"""A file in another encoding is refused with the place of its first such byte and a command that converts it."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.problems.encoding import utf8


def test_the_text_has_no_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("caf\u00e9\r\n", encoding="utf-8-sig", newline="")
    assert utf8("here", tmp_path / "a.txt") == "caf\u00e9\r\n"


@pytest.mark.parametrize(
    ("code", "place", "name"), [("latin-1", "byte 10, line 2", "latin1"), ("utf-16", "byte 0, line 1", "utf-16")]
)
def test_another_encoding_is_refused_with_a_command(tmp_path: Path, code: str, place: str, name: str) -> None:
    path = tmp_path / "my data.txt"
    path.write_bytes("text\na caf\u00e9\n".encode(code))
    with pytest.raises(UserError) as caught:
        utf8("here", path)
    assert str(caught.value) == (
        f"here is not UTF-8 ({place}); to convert it: iconv -f {name} -t utf-8 '{path}' > new.txt"
    )
