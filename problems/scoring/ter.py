"""Translation edit rate as tercom 7.25 computes it: the TER of the WebNLG 2017 challenge.

sacrebleu's TER follows tercom closely but not always: it tries each shift at slightly other places and breaks ties in
another order (WebNLG 2017, GKB_Unimelb on the seen categories: 9470 edits against tercom's 9442). Here the search is
tercom's own: candidate shifts from longest to shortest, its stopping rule, its order of ties, its beam of 20.

Source: Snover et al. 2006, "A study of translation edit rate with targeted human annotation"; tercom 7.25's behaviour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Words = Sequence[str]

MAX_SHIFT_SIZE = 10  # words that move together
MAX_SHIFT_DISTANCE = 50
BEAM = 20
SHIFT_COST = 1
_UNSEEN = -1
_INFINITE = 10**6


@dataclass(frozen=True)
class _Alignment:
    """How the hypothesis becomes the reference: the number of edits, which words are wrong, where each lands."""

    edits: int
    wrong_in_hyp: list[bool]
    wrong_in_ref: list[bool]
    hyp_position: list[int]  # for each reference word: the hypothesis word it stands on, -1 before the first


@dataclass(frozen=True)
class _Shift:
    """Move hypothesis words first..last behind word `target` (-1: to the front)."""

    first: int
    last: int
    target: int


def ter_edits(hyp: Words, ref: Words) -> int:
    """Edits (insertions, deletions, substitutions, shifts) that tercom counts from hyp to one reference."""
    if not hyp or not ref:
        return len(hyp) + len(ref)
    places = _matching_places(hyp, ref)
    distance = EditDistance(ref)
    current, shifts = list(hyp), 0
    alignment = _align(current, ref)
    while (better := _best_shift(current, ref, places, alignment, distance)) is not None:
        current, alignment = better
        shifts += 1
    return alignment.edits + shifts * SHIFT_COST


def corpus_ter(hyps: Sequence[Words], refs: Sequence[Sequence[Words]]) -> tuple[int, float]:
    """Sums over items: (fewest edits to any reference, mean reference length); TER is the first over the second."""
    edits, length = 0, 0.0
    for hyp, item_refs in zip(hyps, refs, strict=True):
        edits += min(ter_edits(hyp, ref) for ref in item_refs)
        length += sum(len(ref) for ref in item_refs) / len(item_refs)
    return edits, length


def _matching_places(hyp: Words, ref: Words) -> dict[tuple[str, ...], list[int]]:
    """A sequence of reference words that all occur in hyp -> the positions where it starts, in rising order."""
    known = set(hyp)
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(ref)):
        for end in range(start, min(len(ref), start + MAX_SHIFT_SIZE + 1)):
            if ref[end] not in known:
                break
            places.setdefault(tuple(ref[start : end + 1]), []).append(start)
    return places


def _align(hyp: Words, ref: Words) -> _Alignment:
    """Edit distance within tercom's beam, with its choice among equal paths: match or substitute, insert, delete."""
    column = [0] + [_UNSEEN] * len(ref)
    steps = [["?"] * (len(ref) + 1) for _ in range(len(hyp) + 1)]
    best_so_far = _INFINITE
    for j in range(len(hyp) + 1):
        word = hyp[j] if j < len(hyp) else None
        column, best_so_far, final = _next_column(column, word, ref, steps, j, best_so_far + BEAM)
    return _read_path(steps, final, len(hyp), len(ref))


def _next_column(
    column: list[int], word: str | None, ref: Words, steps: list[list[str]], j: int, limit: int
) -> tuple[list[int], int, int]:
    """Extends the reached cells of column j; returns column j + 1, its cheapest diagonal step, and the last cell of j.

    Cells of column j that cost more than `limit` are left out; the limit follows from diagonal steps alone, as in
    tercom. The last column (word None) is not pruned.
    """
    size = len(ref)
    following, best = [_UNSEEN] * (size + 1), _INFINITE
    for i in range(size + 1):
        cost = column[i]
        if cost == _UNSEEN or (word is not None and cost > limit):
            continue
        if word is not None:
            if i < size:
                same = ref[i] == word
                diagonal = cost if same else cost + 1
                if following[i + 1] == _UNSEEN or diagonal < following[i + 1]:
                    following[i + 1] = diagonal
                    steps[j + 1][i + 1] = " " if same else "S"
                best = min(best, diagonal)
            if following[i] == _UNSEEN or following[i] > cost + 1:
                following[i] = cost + 1
                steps[j + 1][i] = "I"
        if i < size and (column[i + 1] == _UNSEEN or column[i + 1] > cost + 1):
            column[i + 1] = cost + 1
            steps[j][i + 1] = "D"
    return following, best, column[size]


def _read_path(steps: list[list[str]], edits: int, j: int, i: int) -> _Alignment:
    """Follow the steps back from the end."""
    path = []
    while i > 0 or j > 0:
        step = steps[j][i]
        path.append(step)
        i -= step != "I"
        j -= step != "D"
    wrong_in_hyp, wrong_in_ref, hyp_position = [], [], []
    at = -1
    for step in reversed(path):
        if step != "D":
            at += 1
            wrong_in_hyp.append(step != " ")
        if step != "I":
            wrong_in_ref.append(step != " ")
            hyp_position.append(at)
    return _Alignment(edits, wrong_in_hyp, wrong_in_ref, hyp_position)


class EditDistance:
    """The exact edit distance to one reference, computed cheaply with bit operations.

    It is never larger than the number of edits that `_align` finds within its beam, so it can rule out a shift early.
    """

    def __init__(self, ref: Words) -> None:
        self.size = len(ref)
        self.masks: dict[str, int] = {}
        for i, word in enumerate(ref):
            self.masks[word] = self.masks.get(word, 0) | 1 << i

    def __call__(self, hyp: Words) -> int:
        """Hyyrö's form of Myers' algorithm: the differences of one column are the bits of two integers."""
        full, last = (1 << self.size) - 1, 1 << (self.size - 1)
        plus, minus, distance = full, 0, self.size
        for word in hyp:
            mask = self.masks.get(word, 0)
            diagonal = (((mask & plus) + plus) ^ plus) | mask | minus
            up = minus | ~(diagonal | plus) & full
            down = diagonal & plus
            distance += (up & last != 0) - (down & last != 0)
            up = up << 1 | 1
            plus = (down << 1 | ~(diagonal | up)) & full
            minus = up & diagonal & full
        return distance


def _best_shift(
    words: list[str],
    ref: Words,
    places: dict[tuple[str, ...], list[int]],
    start: _Alignment,
    distance: EditDistance,
) -> tuple[list[str], _Alignment] | None:
    """The next shift of tercom, as the words and the alignment after it; None when no shift helps.

    By tercom's rule, the first shift found is taken if edits plus shifts do not grow; a later one must lower that sum.
    """
    best: tuple[list[str], _Alignment] | None = None
    total = start.edits
    shifts = _possible_shifts(words, places, start)
    for size in range(MAX_SHIFT_SIZE, -1, -1):
        largest_gain = 2 * (1 + size)
        for shift in shifts.get(size, ()):
            gained = start.edits - total
            if gained > largest_gain or (best is not None and gained == largest_gain):
                return best  # shorter shifts cannot gain more
            moved = _apply(words, shift)
            allowed = total - SHIFT_COST - (best is not None)
            if distance(moved) > allowed:
                continue
            alignment = _align(moved, ref)
            if alignment.edits <= allowed:
                best, total = (moved, alignment), alignment.edits + SHIFT_COST
    return best


def _possible_shifts(
    words: list[str], places: dict[tuple[str, ...], list[int]], alignment: _Alignment
) -> dict[int, list[_Shift]]:
    """Shifts worth trying: number of words minus 1 -> shifts in tercom's order."""
    found: dict[int, list[_Shift]] = {}
    landing = alignment.hyp_position
    for first, word in enumerate(words):
        if not any(_may_move(first, landing[place], 1) for place in places.get((word,), ())):
            continue
        for last in range(first, min(len(words), first + MAX_SHIFT_SIZE)):
            candidates = places.get(tuple(words[first : last + 1]))
            if candidates is None:
                break
            if not any(alignment.wrong_in_hyp[first : last + 1]):
                continue
            candidates = [c for c in candidates if _may_move(first, landing[c], 0) and not first <= landing[c] <= last]
            if not candidates:
                break
            for place in candidates:
                if any(alignment.wrong_in_ref[place : place + last - first + 1]):
                    found.setdefault(last - first, []).extend(_targets(first, last, place, landing))
    return found


def _may_move(first: int, landing: int, slack: int) -> bool:
    """Whether a word may move to its match: not to its own place, nor too far (to the left `slack` places farther)."""
    return first != landing and -MAX_SHIFT_DISTANCE - slack <= landing - first <= MAX_SHIFT_DISTANCE


def _targets(first: int, last: int, place: int, landing: list[int]) -> list[_Shift]:
    """Shifts to the places around one match: before it, and behind each of its words.

    Left out are places that would change nothing, and repetitions of the place behind the match's first word.
    """
    shifts = []
    for offset in range(-1, last - first + 1):
        at = place + offset
        if at == -1:
            shifts.append(_Shift(first, last, -1))
        elif landing[at] != first and (offset == 0 or landing[at] != landing[place]):
            shifts.append(_Shift(first, last, landing[at]))
    return shifts


def _apply(words: list[str], shift: _Shift) -> list[str]:
    """The words after the shift."""
    first, last, target = shift.first, shift.last, shift.target
    run = words[first : last + 1]
    if target < first:
        return words[: target + 1] + run + words[target + 1 : first] + words[last + 1 :]
    if target > last:
        return words[:first] + words[last + 1 : target + 1] + run + words[target + 1 :]
    # The target lies inside the run, so it says how many of the words behind the run move before it.
    after = last + 1 + target - first
    return words[:first] + words[last + 1 : after] + run + words[after:]
