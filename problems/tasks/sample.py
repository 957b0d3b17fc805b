"""The sample task of the quickstart: a sentiment task that the project writes itself, from a seed.

A small grammar (sample.yaml) makes short review sentences. Every sentence is of one kind:

* `plain`: the polarity word says the label ("the soup was really tasty");
* `negation`: the polarity word is negated ("this movie is anything but dull");
* `contrast`: two clauses disagree, and the stronger one decides ("the play is slow, but in the end moving").

A neutral clause ("we saw it on a tuesday") may stand before or after any of them. The kinds are mixed so that counting
words is not enough, while a pretrained encoder learns the task within a few hundred steps.

Train and validation share their templates. Test has templates and neutral clauses of its own, and a few words that
occur in no other split.
"""

import random
from pathlib import Path
from typing import Any, NamedTuple

import yaml

LABELS = ("negative", "positive")

# Plain sentences outweigh negated ones, so that a polarity word on its own still says something.
KIND_WEIGHTS = {"plain": 0.50, "negation": 0.20, "contrast": 0.30}
NEUTRAL_SHARE = 0.4

# The most rows from one set of templates. Each kind can make at least twice as many sentences as this needs.
MAX_ROWS = 100_000

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""Words by label: (negative, positive)."""


class Domain(NamedTuple):
    """What a review can be about; `parts` follow "the"."""

    subjects: tuple[str, ...]
    parts: tuple[str, ...]
    words: Pair
    neutral: tuple[str, ...]
    held_out_neutral: tuple[str, ...]


class Templates(NamedTuple):
    """The sentence patterns of a split.

    `kinds` maps a kind of sentence to its patterns. Their slots: `{s}` subject, `{p}` part, `{i}` intensifier,
    `{w}` / `{verb}` a word of the label's polarity, `{o}`, `{o2}` / `{overb}` of the opposite polarity.
    `joins` put a neutral clause `{n}` and a sentence `{c}` together.
    """

    kinds: dict[str, tuple[str, ...]]
    joins: tuple[str, ...]


class Row(NamedTuple):
    """One labelled sentence, with the pattern and the kind that it was made from."""

    sentence: str
    label: int
    kind: str
    template: str
    neutral: bool


def _pair(words: dict[str, list[str]]) -> Pair:
    return tuple(words["negative"]), tuple(words["positive"])


def _domain(found: dict[str, Any]) -> Domain:
    words = _pair(found.pop("words"))
    return Domain(words=words, **{name: tuple(texts) for name, texts in found.items()})


def _templates(found: dict[str, Any]) -> Templates:
    return Templates({kind: tuple(texts) for kind, texts in found["kinds"].items()}, tuple(found["joins"]))


_GRAMMAR = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
DOMAINS = tuple(map(_domain, _GRAMMAR["domains"]))
GENERAL_WORDS, HELD_OUT_WORDS, VERBS = (_pair(_GRAMMAR[x]) for x in ("general_words", "held_out_words", "verbs"))
INTENSIFIERS = tuple(_GRAMMAR["intensifiers"])
TRAIN_TEMPLATES, TEST_TEMPLATES = (_templates(_GRAMMAR[x]) for x in ("train_templates", "test_templates"))


def _draw(label: int, kind: str, held_out: bool, rng: random.Random) -> Row:
    templates = TEST_TEMPLATES if held_out else TRAIN_TEMPLATES
    template = rng.choice(templates.kinds[kind])
    domain = rng.choice(DOMAINS)
    pairs = [domain.words, GENERAL_WORDS, *([HELD_OUT_WORDS] if held_out else [])]
    same, opposite = ([word for pair in pairs for word in pair[of]] for of in (label, 1 - label))
    other, other2 = rng.sample(opposite, 2)
    sentence = template.format(
        s=rng.choice(domain.subjects),
        p=rng.choice(domain.parts),
        i=rng.choice(INTENSIFIERS),
        w=rng.choice(same),
        verb=rng.choice(VERBS[label]),
        overb=rng.choice(VERBS[1 - label]),
        o=other,
        o2=other2,
    )
    neutral = rng.random() < NEUTRAL_SHARE
    if neutral:
        clause = rng.choice(domain.held_out_neutral if held_out else domain.neutral)
        sentence = rng.choice(templates.joins).format(n=clause, c=sentence)
    return Row(f"{sentence}.", label, kind, template, neutral)


def draw_rows(count: int, held_out: bool, rng: random.Random) -> list[Row]:
    """Draws `count` distinct sentences, half of them of each label, in random order.

    `held_out` picks the test templates instead of the training ones. Raises ValueError for a `count` that is not
    positive or is above `MAX_ROWS`.
    """
    if not 0 < count <= MAX_ROWS:
        raise ValueError(f"the grammar makes 1 to {MAX_ROWS} rows from a set of templates, not {count}")
    rows: dict[str, Row] = {}
    for index in range(count):
        # A repeated sentence is drawn again with the same kind and label. If the kind were drawn again too, plain
        # sentences would become rare: they are the shortest, and so repeat most often.
        (kind,) = rng.choices(tuple(KIND_WEIGHTS), tuple(KIND_WEIGHTS.values()))
        row = _draw(index % 2, kind, held_out, rng)
        while row.sentence in rows:
            row = _draw(index % 2, kind, held_out, rng)
        rows[row.sentence] = row
    drawn = list(rows.values())
    rng.shuffle(drawn)
    return drawn


def make_sample(
    seed: int = 0, train: int = 6000, validation: int = 1000, test: int = 1000
) -> dict[str, dict[str, list]]:
    """Makes the sample task: `{"train": {"sentence": [...], "label": [...]}, "validation": ..., "test": ...}`.

    Labels index `LABELS` (0 = negative, 1 = positive). `train`, `validation` and `test` are numbers of rows. The same
    arguments give the same rows on every Python 3.11 to 3.13. No sentence appears twice. Raises ValueError for a size
    that is not positive, or when train and validation together, or test, come to more than `MAX_ROWS`.
    """
    for name, size in (("train", train), ("validation", validation), ("test", test)):
        if size <= 0:
            raise ValueError(f"{name} must be a positive number of rows, got {size}")
    rng = random.Random(seed)
    seen = draw_rows(train + validation, held_out=False, rng=rng)
    splits = {"train": seen[:train], "validation": seen[train:], "test": draw_rows(test, held_out=True, rng=rng)}
    return {
        name: {"sentence": [row.sentence for row in rows], "label": [row.label for row in rows]}
        for name, rows in splits.items()
    }
