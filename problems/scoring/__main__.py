"""`python -m autolora.problems.scoring e2e|webnlg|ner --hyp FILE --ref FILE [--json OUT]`: official
metrics."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.tasks import OFFICIAL
from autolora.problems.scoring import read_tags, require, score_e2e, score_ner, score_webnlg


def main(argv: Sequence[str]) -> int:
    """Scores two files, prints the metrics and writes them to OUT; returns 0, or 2 for what the
    user must change."""
    parser = argparse.ArgumentParser(
        prog="python -m autolora.problems.scoring", description="Official metrics of files."
    )
    parser.add_argument("kind", choices=("e2e", "webnlg", "ner"))
    parser.add_argument(
        "--hyp", type=Path, required=True, help="outputs, one a line; ner: columns, the tag last"
    )
    parser.add_argument(
        "--ref",
        type=Path,
        required=True,
        nargs="+",
        help="references, a blank line between those of two outputs, or several parallel "
        "files; ner: columns",
    )
    parser.add_argument("--json", type=Path, help="also write the metrics to this file")
    given = parser.parse_args(argv)
    try:
        scores = _scores(given.kind, given.hyp, given.ref)
    except (UserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.json:
        given.json.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    for name, value in scores.items():
        print(f"{name:<20} {value:.4f}")
    return 0


def _scores(kind: str, hyp: Path, ref: Sequence[Path]) -> dict[str, float]:
    if kind == "ner":
        (words, pred) = read_tags(hyp)
        (of_ref, gold) = read_tags(ref[0])
        if words != of_ref:
            raise UserError(f"{hyp} and {ref[0]} have not the same words in the same sentences")
        return score_ner(gold, pred)
    require(kind, OFFICIAL[kind])
    hyps = _lines(hyp)
    refs = read_references(ref, len(hyps))
    if len(hyps) != len(refs):
        raise UserError(
            f"{hyp} has {len(hyps)} outputs, but {ref[0]} has references for {len(refs)}"
        )
    return (score_webnlg if kind == "webnlg" else score_e2e)(hyps, refs)


def _lines(path: Path) -> list[str]:
    """The lines of a file. An empty one is an empty output and keeps its place."""
    with path.open(encoding="utf-8-sig") as file:
        return [line.strip() for line in file]


def read_references(paths: Sequence[Path], items: int) -> list[list[str]]:
    """The references of each item.

    Of one file: groups with a blank line between them, as the E2E script reads them; without blank
    lines one a line. Of several: line n of each has a reference of item n, or is empty, as in
    WebNLG's files.
    """
    files = list(map(_lines, paths))
    if len(files) > 1:
        return [[ref for ref in refs if ref] for refs in zip(*files, strict=True)]
    groups = [list(lines) for filled, lines in groupby(files[0], key=bool) if filled]
    return [[ref] for ref in groups[0]] if len(groups) == 1 < items else groups


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
