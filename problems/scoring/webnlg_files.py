"""Read WebNLG references: parallel files, as the challenge keeps them, or one file of groups.

Parallel files are `<stem>0<end>`, `<stem>1<end>`, ... (gold-all-cat-reference0.lex, gold-all-cat-reference1.lex, ...):
line n of each file holds a reference of item n, or is empty if the item has no further reference.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from autolora.configs.errors import UserError
from autolora.problems.scoring.files import read_grouped, read_hypotheses

_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)(?P<end>(\.[A-Za-z]\w*)?)")


class WebnlgTexts(NamedTuple):
    """What score_webnlg takes; categories are "seen" / "unseen", or None where the files do not tell."""

    hyps: list[str]
    refs: list[list[str]]
    categories: list[str] | None


class ParallelFiles(NamedTuple):
    """One set of parallel reference files, in the order of their numbers."""

    stem: str
    end: str
    paths: list[Path]


def read_webnlg(hyp: str | Path, ref: str | Path) -> WebnlgTexts:
    """Hypotheses, one a line, and their references. `ref` is one of

    * a file with a blank line between the references of two items, or one reference a line without blank lines;
    * the stem of parallel files ("refs/gold-all-cat-reference"), or the first of them ("...reference0.lex");
    * a folder with parallel files; of several sets the one with as many lines as there are hypotheses.

    Where sets named "all-cat", "old-cat" and "new-cat" lie together and all-cat is used, the other two tell which
    items are of seen and of unseen categories. Raises UserError when nothing fits or counts differ.
    """
    hyps = read_hypotheses(hyp)
    sets = _sets_in(Path(ref) if Path(ref).is_dir() else Path(ref).parent)
    chosen = _choose(sets, Path(ref), len(hyps))
    if chosen is None:
        return WebnlgTexts(*read_grouped(hyp, ref), None)
    refs = read_parallel(chosen)
    if len(refs) != len(hyps):
        raise UserError(
            f"{hyp}: {len(hyps)} hypotheses, but {chosen.paths[0]} has {len(refs)} lines; one line per item"
        )
    for number, item_refs in enumerate(refs, 1):
        if not item_refs:
            raise UserError(f"{chosen.paths[0]}: line {number} is empty in all {len(chosen.paths)} reference files")
    return WebnlgTexts(hyps, refs, _categories(sets, chosen, refs))


def read_parallel(files: ParallelFiles) -> list[list[str]]:
    """The references that each item has. Raises UserError when the files differ in length."""
    columns = [read_hypotheses(path) for path in files.paths]
    for path, column in zip(files.paths, columns, strict=True):
        if len(column) != len(columns[0]):
            raise UserError(
                f"{path}: {len(column)} lines, but {files.paths[0]} has {len(columns[0])}; parallel reference files "
                "have one line per item, empty where an item has no more references"
            )
    return [[ref for ref in item_refs if ref] for item_refs in zip(*columns, strict=True)]


def _sets_in(folder: Path) -> list[ParallelFiles]:
    """The sets of parallel files in a folder: those whose numbers run from 0 or 1 without a gap."""
    numbered: dict[tuple[str, str], dict[int, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NUMBERED.fullmatch(path.name)
        if match and path.is_file():
            numbered.setdefault((match["stem"], match["end"]), {})[int(match["number"])] = path
    return [
        ParallelFiles(stem, end, [paths[number] for number in sorted(paths)])
        for (stem, end), paths in numbered.items()
        if sorted(paths) in (list(range(len(paths))), list(range(1, len(paths) + 1)))
    ]


def _choose(sets: list[ParallelFiles], ref: Path, hyps: int) -> ParallelFiles | None:
    """The set that `ref` means; None when it is one plain file. Raises UserError when none or several fit."""
    if ref.is_dir():
        fitting = [files for files in sets if len(sets) == 1 or len(read_hypotheses(files.paths[0])) == hyps]
        if len(fitting) == 1:
            return fitting[0]
        found = ", ".join(f"{files.stem}*{files.end}" for files in sets) or "none"
        many = "more than one has" if fitting else "none has"
        raise UserError(f"{ref}: of its sets of parallel reference files ({found}) {many} {hyps} lines; name one stem")
    named = [files for files in sets if files.stem == ref.name or (ref == files.paths[0] and len(files.paths) > 1)]
    if ref.is_file():
        return next((files for files in named if ref == files.paths[0]), None)
    if len(named) == 1:
        return named[0]
    if named:
        ends = ", ".join(files.end or "(none)" for files in named)
        raise UserError(f"{ref}: several sets of parallel files have this stem (endings {ends}); name the first file")
    raise UserError(f"{ref}: no such file, folder or stem of parallel files ({ref.name}0.lex, {ref.name}1.lex, ...)")


def _categories(sets: list[ParallelFiles], chosen: ParallelFiles, refs: Sequence[list[str]]) -> list[str] | None:
    """Which items are of seen categories, by finding them in the old-cat and new-cat files in their order."""
    if "all-cat" not in chosen.stem:
        return None
    parts = {files.stem: files for files in sets if files.end == chosen.end}
    stems = [chosen.stem.replace("all-cat", part) for part in ("old-cat", "new-cat")]
    if not parts.keys() >= set(stems):
        return None
    old, new = (read_parallel(parts[stem]) for stem in stems)
    if len(old) + len(new) != len(refs):
        return None
    categories: list[str] = []
    for item_refs in refs:
        seen, unseen = old[:1] == [item_refs], new[:1] == [item_refs]
        if seen == unseen:
            return None  # the files are not parts of this one, or the item could be of either
        categories.append("seen" if seen else "unseen")
        del (old if seen else new)[0]
    return categories
