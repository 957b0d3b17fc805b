"""The verdict on the page and in the last words: its sentence, every pair, and what to do."""

from pathlib import Path

import pytest

from autolora.engine.disk.files import write_json
from autolora.engine.report.summary import print_verdict
from autolora.engine.report.verdict import draw_verdict, verdict_chart, verdict_of
from autolora.engine.report.words import signed, told_apart
from autolora.engine.run.folder import RunFolder
from tests.helpers.verdict_file import FOUND


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    write_json(made.verdict_summary, FOUND)
    return made


def test_every_pair_is_compared_and_every_arm_has_a_row(folder: RunFolder) -> None:
    verdict = verdict_of(folder)
    assert verdict is not None
    assert verdict.differences["shuffled"] == pytest.approx([0.2, 0.1, 0.3])
    assert verdict.differences["uniform"] == pytest.approx([-0.1, 0, -0.1])
    assert set(verdict_chart(verdict)) == set(draw_verdict(verdict, folder.figures)) == {"verdict"}
    _, rows = verdict.table
    assert rows[0] == ["learned", "0.5000", "0.8000", "100", "", ""]
    assert rows[1] == ["shuffled", "0.7000", "0.5000", "100", "+0.2000", "+0.1000 to +0.3000"]
    assert rows[2] == ["uniform", "0.4333", "", "400", "-0.0670", ""]


def test_without_pairs_there_is_a_sentence_alone_and_without_a_verdict_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert verdict_of(folder) is None
    write_json(folder.verdict_summary, {"ending": "undecided", "sentence": "S.", "pairs": 0, "recommendation": "R."})
    verdict = verdict_of(folder)
    assert verdict is not None
    assert (verdict.sentence, verdict.lines) == ("S.", ["R."])
    assert verdict_chart(verdict) == draw_verdict(verdict, tmp_path) == {}


def test_the_last_words_have_the_sentence_the_arms_and_what_to_do(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    print_verdict(folder)
    said = capsys.readouterr().out
    parts = (FOUND["sentence"], "minus that of the learned ranks +0.2000", *FOUND["notes"], FOUND["recommendation"])
    assert all(words in said for words in parts)


def test_numbers_that_differ_are_not_shown_as_equal() -> None:
    """Arms of a verdict on a language model had a difference beside two losses that read the same."""
    assert told_apart([0.43121, 0.43124, 1.0, None]) == ["0.43121", "0.43124", "1.00000", ""]
    assert [signed(nats) for nats in (0.01234, -0.00037, -1e-09)] == ["+0.0123", "-0.00037", "+0.0000"]
