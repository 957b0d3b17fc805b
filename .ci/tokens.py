"""Counts the tokens of the program: what Python's tokenize finds, without comments, docstrings and blank lines.

`python .ci/tokens.py` prints the number and fails if it exceeds the one in .ci/tokens. Whoever raises that number says
in the commit which user it serves.
"""

import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ("run.py", "configs", "problems", "engine", "autolora")
LAYOUT = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
UNCOUNTED = (*LAYOUT, tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)


def tokens(path: Path) -> int:
    """The tokens of one file."""
    count, before = 0, tokenize.INDENT
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            is_docstring = token.type == tokenize.STRING and before in LAYOUT
            if token.type not in UNCOUNTED and not is_docstring:
                count += 1
            if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
                before = token.type
    return count


def files() -> Iterator[Path]:
    """The Python files of the program; symlinks, as in autolora/, are not counted again."""
    for path in (ROOT / name for name in PROGRAM):
        found = [path] if path.is_file() else sorted(path.rglob("*.py"))
        yield from (file for file in found if not file.is_symlink())


def main() -> int:
    """Prints the tokens of the program; returns 1 if there are more than allowed."""
    count, allowed = sum(map(tokens, files())), int((ROOT / ".ci" / "tokens").read_text())
    print(f"the program has {count:,} tokens; allowed: {allowed:,}")
    return int(count > allowed)


if __name__ == "__main__":
    sys.exit(main())
