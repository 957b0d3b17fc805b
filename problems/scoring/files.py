"""Read texts to score: one hypothesis per line, references in groups. Every error names the file and the line."""

from pathlib import Path
from typing import NamedTuple

from autolora.configs.errors import UserError
from autolora.problems.encoding import utf8


class Group(NamedTuple):
    """The references of one item and the line they start on."""

    line: int
    references: list[str]


def read_lines(path: str | Path) -> list[str]:
    """Lines without line ends and byte order mark. Raises UserError for a file that is missing, empty or not UTF-8."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{path}: is a folder; a text file is needed")
    try:
        text = utf8(str(path), file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not text:
        raise UserError(f"{path}: is empty; one line per item is needed")
    # Only real line ends: str.splitlines would also cut at characters that a sentence may hold, such as U+2028.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_hypotheses(path: str | Path) -> list[str]:
    """One output a line, without the white space around it; an empty line is an empty output and keeps its place."""
    return [line.strip() for line in read_lines(path)]


def read_groups(path: str | Path) -> list[Group]:
    """Groups of references, one a line, a blank line between groups; blank lines at the end do not count.

    Raises UserError for two blank lines in a row, which would be an item without a reference.
    """
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path}: has only blank lines; references are needed, a blank line between items")
    groups = [Group(1, [])]
    for number, line in enumerate(lines, 1):
        if line:
            groups[-1].references.append(line)
        elif not groups[-1].references:
            raise UserError(f"{path}: line {number} is blank, not a reference; allowed: one blank line between items")
        else:
            groups.append(Group(number + 1, []))
    return groups


def read_grouped(hyp: str | Path, ref: str | Path) -> tuple[list[str], list[list[str]]]:
    """Hypotheses and groups of references, the E2E script's format; without blank lines each line is its own group.

    Raises UserError when the counts differ, and as the readers of the two files. Source: measure_scores.py, load_data.
    """
    hyps, groups = read_hypotheses(hyp), read_groups(ref)
    if len(groups) == 1 and len(hyps) != 1:
        groups = [Group(number, [line]) for number, line in enumerate(groups[0].references, 1)]
    _check_counts(hyp, hyps, ref, groups)
    return hyps, [group.references for group in groups]


def _check_counts(hyp: str | Path, hyps: list[str], ref: str | Path, groups: list[Group]) -> None:
    """Raises UserError, naming the first line without a partner, unless each hypothesis has a group of references."""
    if len(hyps) == len(groups):
        return
    if len(hyps) < len(groups):
        surplus = f"{ref} line {groups[len(hyps)].line} has no hypothesis"
    else:
        surplus = f"{hyp} line {len(groups) + 1} has no references"
    raise UserError(
        f"{hyp}: {len(hyps)} hypotheses, but {ref} has references for {len(groups)} items ({surplus}); "
        "one hypothesis a line, a blank line between the references of two items"
    )
