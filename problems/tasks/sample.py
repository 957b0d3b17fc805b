"""The sample task of the quickstart: a sentiment task that the project writes itself, from a seed.

A small grammar makes short review sentences. Every sentence is of one kind:

* `plain`: the polarity word says the label ("the soup was really tasty");
* `negation`: the polarity word is turned round ("this movie is anything but dull");
* `contrast`: two clauses disagree and the dominating one decides ("the play is slow, but in the end moving").

A neutral clause ("we saw it on a tuesday") may stand before or after any of them. The kinds are mixed so that counting
words is not enough, while a pretrained encoder learns the task within a few hundred steps.

Train and validation share their templates; test is made of held-out templates only, and of a few held-out words.
"""

from __future__ import annotations

import random
from typing import NamedTuple

LABELS = ("negative", "positive")

# Plain sentences outweigh negated ones, so that a polarity word on its own still says something.
KIND_WEIGHTS = {"plain": 0.50, "negation": 0.20, "contrast": 0.30}
NEUTRAL_SHARE = 0.4

# Rows from one set of templates. Every kind has at least twice as many sentences as this asks of it.
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


def _pair(negative: str, positive: str) -> Pair:
    return tuple(negative.split()), tuple(positive.split())


DOMAINS = (
    Domain(
        subjects=("the film", "this movie", "the play", "the series"),
        parts=("plot", "acting", "ending", "dialogue"),
        words=_pair("boring dull slow predictable tedious silly", "gripping moving funny clever touching thrilling"),
        neutral=("we saw it on a tuesday", "it runs for two hours", "my sister came along"),
        held_out_neutral=("we watched it at home", "it was made in canada"),
    ),
    Domain(
        subjects=("the book", "this novel", "the memoir", "her new story"),
        parts=("first chapter", "style", "middle part", "translation"),
        words=_pair("boring dull shallow confusing tedious clumsy", "gripping moving witty clever touching wise"),
        neutral=("i read it on the train", "it has three hundred pages", "my brother lent it to me"),
        held_out_neutral=("i read it in april", "it is set in lisbon"),
    ),
    Domain(
        subjects=("the meal", "our dinner", "the soup", "this curry"),
        parts=("starter", "sauce", "bread", "side dish"),
        words=_pair("bland stale greasy soggy tasteless dry", "tasty delicious fresh juicy satisfying crisp"),
        neutral=("we ate at seven", "we ordered it for two", "we sat by the window"),
        held_out_neutral=("we had it on a sunday", "they served it at noon"),
    ),
    Domain(
        subjects=("the hotel", "our room", "the hostel", "this guest house"),
        parts=("lobby", "bathroom", "bed", "breakfast room"),
        words=_pair("dirty noisy cramped shabby smelly gloomy", "clean comfortable cosy quiet spotless bright"),
        neutral=("we stayed for two nights", "it is next to the station", "we came by bus"),
        held_out_neutral=("we arrived on a monday", "it has forty beds"),
    ),
    Domain(
        subjects=("the phone", "this laptop", "the tablet", "the camera"),
        parts=("screen", "battery", "menu", "case"),
        words=_pair("slow flimsy clumsy unreliable sluggish faulty", "fast reliable sturdy handy precise smooth"),
        neutral=("i bought it in may", "it comes in two colours", "i use it at work"),
        held_out_neutral=("i ordered it online", "it weighs half a pound"),
    ),
)

GENERAL_WORDS = _pair(
    "bad awful terrible weak poor disappointing dreadful unpleasant",
    "good great excellent wonderful lovely brilliant superb pleasant",
)
HELD_OUT_WORDS = _pair("horrible lousy", "fantastic delightful")
VERBS: Pair = (("disappoints", "annoys", "fails", "lets us down"), ("works", "delights", "impresses", "convinces"))
INTENSIFIERS = ("really", "very", "quite", "truly")

TRAIN_TEMPLATES = Templates(
    kinds={
        "plain": (
            "{s} is {w}",
            "{s} was {i} {w}",
            "i found {s} {i} {w}",
            "{s} turned out to be {w}",
            "we all thought {s} was {w}",
            "{s} {verb} and the {p} is {w}",
            "{i} {w}, from start to finish, that is {s}",
        ),
        "negation": (
            "{s} is not {o}",
            "{s} was never {o}",
            "{s} is hardly {o}",
            "{s} is anything but {o}",
            "{s} is far from {o}",
            "{s} isn't {o} in the least",
            "nobody would call {s} {o}",
            "i did not find {s} {o}",
            "there is nothing {o} about {s}",
            "{s} never {overb} and the {p} is not {o}",
        ),
        "contrast": (
            "{s} is {o}, but in the end {w}",
            "although {s} is {o}, it is {w}",
            "{s} is {w} in the end, even though it seems {o} at first",
            "even though the {p} is {o}, {s} is {w}",
            "{s} seemed {o}, yet it turned out {w}",
            "the {p} was {o}, but {s} {verb}",
            "{s} is {w}, despite the {o} {p}",
            "although {s} looks {o}, it never {overb}",
            "{s} seems {o}, but it is not {o2}",
        ),
    },
    joins=("{n}, and {c}", "{c}, and {n}", "{n}. {c}", "{c}. {n}"),
)

TEST_TEMPLATES = Templates(
    kinds={
        "plain": (
            "{s} was {w}, {i} {w}",
            "in my opinion {s} is {w}",
            "{w} is the word for {s}",
            "how {w} {s} was",
            "{s} {verb}, it is {i} {w}",
        ),
        "negation": (
            "{s} is by no means {o}",
            "{s} was not at all {o}",
            "{s} can't be called {o}",
            "i would never say that {s} is {o}",
            "{s} wasn't {o} for a minute",
            "you could hardly call {s} {o}",
            "no one found {s} {o}",
        ),
        "contrast": (
            "while {s} is {o} at times, it is {w} overall",
            "{s} starts out {o}; however, it ends up {w}",
            "{s} may be {o}, but it is still {w}",
            "i expected {s} to be {o}, but it was {w}",
            "though {o} at first, {s} becomes {w}",
            "{s} is {w} after all, although the {p} is {o}",
            "in spite of the {o} {p}, {s} is {w}",
            "{s} sounds {o}, but it isn't {o2}",
        ),
    },
    joins=("{n}; {c}", "{c} ({n})", "{c}; {n}", "by the way, {n}. {c}"),
)


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
        # The kind is settled before repeats are thrown away: short plain sentences repeat most, and would get rare.
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
