"""The verdict on the page and in the last words: its sentence, every pair, and what to do."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import write_json
from autolora.engine.report.summary import print_verdict
from autolora.engine.report.verdict import draw_verdict, verdict_chart, verdict_of
from autolora.engine.run.folder import RunFolder
from tests.helpers.verdict_file import FOUND


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    write_json(made.verdict_summary, FOUND)
    return made


def test_every_pair_is_a_point_and_the_interval_a_band(folder: RunFolder) -> None:
    verdict = verdict_of(folder)
    assert verdict is not None
    made = verdict_chart(verdict)["verdict"]
    drawn = {item.label.value: item.renderers[0].data_source.data for item in made.legend[0].items}
    assert drawn["shuffled"]["difference"] == pytest.approx([0.2, 0.1, 0.3])
    assert drawn["uniform"]["difference"] == pytest.approx([-0.1, 0, -0.1])
    assert drawn["shuffled"]["pair"] == [1, 2, 3]
    band = made.select_one({"name": "interval"})
    assert (band.bottom, band.top) == (0.1, 0.3)
    (path,) = draw_verdict(verdict, folder.figures).values()
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_chart_shows_0_also_if_all_points_lie_on_one_side(folder: RunFolder) -> None:
    write_json(folder.verdict_summary, FOUND | {"arms": FOUND["arms"][:2]})
    made = verdict_chart(verdict_of(folder))["verdict"]
    assert made.y_range.start < 0 < 0.3 < made.y_range.end


def test_an_arm_of_fewer_pairs_is_compared_in_those_that_have_it(folder: RunFolder) -> None:
    short = {"name": "uniform", "losses": [0.4], "parameters": 400, "difference": -0.1, "interval": None}
    write_json(folder.verdict_summary, FOUND | {"arms": [*FOUND["arms"][:2], short]})
    verdict = verdict_of(folder)
    assert verdict is not None
    assert verdict.differences["uniform"] == pytest.approx([-0.1])
    assert verdict_chart(verdict)


def test_the_table_has_a_row_for_each_arm(folder: RunFolder) -> None:
    verdict = verdict_of(folder)
    assert verdict is not None
    columns, rows = verdict.table
    assert len(columns) == len(rows[0])
    assert rows[0] == ["learned", "0.5000", "0.8000", "100", "", ""]
    assert rows[1] == ["shuffled", "0.7000", "0.5000", "100", "+0.2000", "+0.1000 to +0.3000"]
    assert rows[2] == ["uniform", "0.4333", "", "400", "-0.0670", ""]


def test_without_pairs_there_is_a_sentence_alone_and_without_a_verdict_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert verdict_of(folder) is None
    assert verdict_chart(None) == draw_verdict(None, tmp_path) == {}
    write_json(folder.verdict_summary, {"ending": "undecided", "sentence": "S.", "pairs": 0, "recommendation": "R."})
    verdict = verdict_of(folder)
    assert verdict is not None
    assert (verdict.sentence, verdict.lines) == ("S.", [("R.", "")])
    assert verdict_chart(verdict) == draw_verdict(verdict, tmp_path) == {}


def test_page_and_terminal_show_the_command_of_who_reads_them(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """verdict.json holds another's: the one who reads it may have started the program with uv."""
    told = "Use these ranks: python run.py --config 'a: python run.py b.yaml' --stage retrain"
    write_json(folder.verdict_summary, FOUND | {"notes": ["A note."], "recommendation": told})
    monkeypatch.setattr("autolora.configs.launch.program", lambda: "uv run run.py")
    command = "uv run run.py --config 'a: python run.py b.yaml' --stage retrain"
    verdict = verdict_of(folder)
    assert verdict is not None
    assert verdict.lines == [("A note.", ""), ("Use these ranks:", command)]
    print_verdict(folder)
    assert f"Use these ranks: {command}\n" in capsys.readouterr().out


def test_a_damaged_file_is_named(folder: RunFolder) -> None:
    write_json(folder.verdict_summary, FOUND | {"pairs": -1})
    with pytest.raises(UserError, match=r"verdict.json: pairs: .*--stage verdict writes it again"):
        verdict_of(folder)


def test_the_last_words_have_the_sentence_the_arms_and_the_way_on(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    print_verdict(folder)
    said = capsys.readouterr().out
    for words in (
        FOUND["sentence"],
        "shuffled",
        "minus that of the learned ranks +0.2000",
        *FOUND["notes"],
        FOUND["recommendation"],
    ):
        assert words in said
