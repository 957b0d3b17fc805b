"""The passes of an outer step that docs/hypergradients.md states for each approximation."""

import re

from tests.helpers.paths import ROOT

_ROW = re.compile(r"^\| `(?P<name>\w+)` \|.* \| (?P<forward>\d+) / (?P<backward>\d+)(?P<more> \+ K)? \|", re.MULTILINE)
_PAGE = (ROOT / "docs" / "hypergradients.md").read_text(encoding="utf-8")
_FOUND = {row["name"]: row for row in _ROW.finditer(_PAGE)}


def documented_passes(method: str, terms: int) -> tuple[int, int]:
    """Forward and backward passes of one outer step, its inner step included, with `terms` Hessian-vector products."""
    row = _FOUND[method]
    return int(row["forward"]), int(row["backward"]) + (terms if row["more"] else 0)
