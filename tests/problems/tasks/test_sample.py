"""Tests of the sample task: the splits are what the docstring says, and counting words does not solve it."""

import hashlib
import json
import random
import re
import string
from collections import Counter
from itertools import chain

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from autolora.problems.tasks import sample
from autolora.problems.tasks.sample import draw_rows, make_sample

SIZES = {"train": 1200, "validation": 300, "test": 300}
# Of make_sample(0, train=200, validation=50, test=50), the same on Python 3.11 and 3.13.
DIGEST = "440f122e8caf3020c913f97bee9d69faf0c867c3e5f3c074d7af0b25b1c7c919"


def _all_patterns(templates: sample.Templates) -> list[str]:
    return list(chain.from_iterable(templates.kinds.values()))


def _slot_values() -> dict[str, set[str]]:
    pairs = [domain.words for domain in sample.DOMAINS] + [sample.GENERAL_WORDS, sample.HELD_OUT_WORDS]
    words = {word for negative, positive in pairs for word in negative + positive}
    verbs = {*sample.VERBS[0], *sample.VERBS[1]}
    return {
        "s": {subject for domain in sample.DOMAINS for subject in domain.subjects},
        "p": {part for domain in sample.DOMAINS for part in domain.parts},
        "i": set(sample.INTENSIFIERS),
        **dict.fromkeys(("w", "o", "o2"), words),
        **dict.fromkeys(("verb", "overb"), verbs),
    }


def _regex(pattern: str) -> re.Pattern[str]:
    values = _slot_values()
    parts = []
    for literal, slot, _, _ in string.Formatter().parse(pattern):
        parts.append(re.escape(literal))
        if slot:
            parts.append(f"(?:{'|'.join(map(re.escape, sorted(values[slot])))})")
    return re.compile(rf"\b{''.join(parts)}\b")


def test_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert make_sample(3, **SIZES) == make_sample(3, **SIZES)
    assert make_sample(3, **SIZES)["test"] != make_sample(4, **SIZES)["test"]


def test_rows_do_not_depend_on_the_python_version() -> None:
    rows = json.dumps(make_sample(0, train=200, validation=50, test=50), sort_keys=True)
    assert hashlib.sha256(rows.encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("sizes", [SIZES, {"train": 1, "validation": 1, "test": 1}])
def test_sizes_are_honoured(sizes: dict[str, int]) -> None:
    data = make_sample(0, **sizes)
    assert {name: len(split["sentence"]) for name, split in data.items()} == sizes
    assert {name: len(split["label"]) for name, split in data.items()} == sizes


def test_default_sizes() -> None:
    assert [len(split["label"]) for split in make_sample().values()] == [6000, 1000, 1000]


@pytest.mark.parametrize("seed", range(3))
def test_no_sentence_appears_twice(seed: int) -> None:
    sentences = list(chain.from_iterable(split["sentence"] for split in make_sample(seed).values()))
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_balanced(seed: int) -> None:
    for split in make_sample(seed).values():
        assert set(split["label"]) == set(range(len(sample.LABELS)))
        assert abs(sum(split["label"]) / len(split["label"]) - 0.5) < 0.03


@pytest.mark.parametrize("held_out", [False, True])
def test_every_kind_has_its_share_and_both_labels(held_out: bool) -> None:
    rows = draw_rows(4000, held_out, random.Random(0))
    for kind, weight in sample.KIND_WEIGHTS.items():
        labels = [row.label for row in rows if row.kind == kind]
        assert abs(len(labels) / len(rows) - weight) < 0.03
        assert abs(sum(labels) / len(labels) - 0.5) < 0.05
    assert abs(sum(row.neutral for row in rows) / len(rows) - sample.NEUTRAL_SHARE) < 0.1


@pytest.mark.parametrize("held_out", [False, True])
def test_every_template_is_used_with_both_labels(held_out: bool) -> None:
    templates = sample.TEST_TEMPLATES if held_out else sample.TRAIN_TEMPLATES
    used = Counter((row.template, row.label) for row in draw_rows(2000, held_out, random.Random(0)))
    assert set(used) == {(pattern, label) for pattern in _all_patterns(templates) for label in (0, 1)}


def test_test_templates_do_not_occur_in_training() -> None:
    data = make_sample(0)
    held_out = [_regex(pattern) for pattern in _all_patterns(sample.TEST_TEMPLATES)]
    assert not [row for row in data["train"]["sentence"] for pattern in held_out if pattern.search(row)]
    assert all(any(pattern.search(row) for pattern in held_out) for row in data["test"]["sentence"])


def test_held_out_tables_share_nothing_with_the_training_ones() -> None:
    train, test = sample.TRAIN_TEMPLATES, sample.TEST_TEMPLATES
    assert not set(_all_patterns(train)) & set(_all_patterns(test))
    assert not set(train.joins) & set(test.joins)
    assert not any(set(domain.neutral) & set(domain.held_out_neutral) for domain in sample.DOMAINS)
    known = {word for pair in (*(d.words for d in sample.DOMAINS), sample.GENERAL_WORDS) for word in chain(*pair)}
    assert not known & set(chain(*sample.HELD_OUT_WORDS))


def test_no_word_has_both_polarities() -> None:
    for domain in sample.DOMAINS:
        negative, positive = (
            {*domain.words[i], *sample.GENERAL_WORDS[i], *sample.HELD_OUT_WORDS[i]} for i in range(2)
        )
        assert not negative & positive


@pytest.mark.trains
@pytest.mark.parametrize("seed", range(3))
def test_counting_words_does_not_solve_it(seed: int) -> None:
    data = make_sample(seed)
    vectorizer = CountVectorizer()
    counts = vectorizer.fit_transform(data["train"]["sentence"])
    model = LogisticRegression(max_iter=1000).fit(counts, data["train"]["label"])
    for name in ("validation", "test"):
        accuracy = model.score(vectorizer.transform(data[name]["sentence"]), data[name]["label"])
        assert 0.5 < accuracy < 0.8


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("size", [0, -1, sample.MAX_ROWS + 1])
def test_sizes_that_cannot_be_filled_are_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"rows"):
        make_sample(0, **{**SIZES, name: size})


@pytest.mark.parametrize("count", [0, -5, sample.MAX_ROWS + 1])
def test_draw_rows_refuses_what_it_cannot_fill(count: int) -> None:
    with pytest.raises(ValueError, match=f"not {count}"):
        draw_rows(count, False, random.Random(0))
