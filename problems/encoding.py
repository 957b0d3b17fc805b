"""The text of a user's file, which must be UTF-8; the refusal of another encoding has a command that converts it."""

import shlex
from pathlib import Path

from autolora.configs.errors import UserError


def utf8(where: str, path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises UserError for another encoding, beginning with `where`, with the place of the first byte that is not UTF-8.
    Raises OSError for a file that cannot be read."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Spreadsheets of Windows write Latin-1 (nearly), or UTF-16 with a mark at the beginning.
        written = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin1"
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{where} is not UTF-8 (byte {error.start}, line {line}); to convert it: iconv -f {written} -t utf-8 "
            f"{shlex.quote(str(path))} > new{path.suffix}"
        ) from error
