"""The files of a WebNLG scoring: their forms and categories, and what is refused."""

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.webnlg_files import read_webnlg


@pytest.fixture
def folder(tmp_path):
    """All, old and new categories of three items, with up to two references."""
    texts = {
        "all": ("a\nb\nc\n", "A\n\nC\n"),
        "old": ("a\nc\n", "A\nC\n"),
        "new": ("b\n",),
    }
    for part, columns in texts.items():
        for number, column in enumerate(columns):
            (tmp_path / f"gold-{part}-cat-reference{number}.lex").write_text(column)
    (tmp_path / "gold-all-cat-reference-3ref.meteor").write_text("not one of them\n")
    return tmp_path


@pytest.fixture
def hyp(tmp_path_factory):
    path = tmp_path_factory.mktemp("hyp") / "hyp.txt"
    path.write_text("x\ny\nz\n")
    return path


REFS = [["a", "A"], ["b"], ["c", "C"]]


@pytest.mark.parametrize("ref", ["", "gold-all-cat-reference", "gold-all-cat-reference0.lex"])
def test_folder_stem_and_first_file_are_the_same(folder, hyp, ref):
    texts = read_webnlg(hyp, folder / ref)
    assert texts.hyps == ["x", "y", "z"]
    assert texts.refs == REFS
    assert texts.categories == ["seen", "unseen", "seen"]


def test_one_file_of_groups(tmp_path, hyp):
    (tmp_path / "refs.txt").write_text("a\nA\n\nb\n\nc\nC\n")
    assert read_webnlg(hyp, tmp_path / "refs.txt") == (["x", "y", "z"], REFS, None)


def test_part_has_no_categories(folder, hyp):
    hyp.write_text("x\ny\n")
    texts = read_webnlg(hyp, folder)  # of the three sets the one with two lines
    assert texts.refs == [["a", "A"], ["c", "C"]]
    assert texts.categories is None


def test_parts_that_are_not_of_this_whole_tell_nothing(folder, hyp):
    (folder / "gold-new-cat-reference0.lex").write_text("other\n")
    assert read_webnlg(hyp, folder).categories is None


def test_numbers_may_start_at_one_and_need_no_ending(tmp_path, hyp):
    for number, column in enumerate(["a\nb\nc\n", "A\n\nC\n"], 1):
        (tmp_path / f"reference{number}").write_text(column)
    assert read_webnlg(hyp, tmp_path / "reference").refs == REFS


def test_what_does_not_fit(folder, hyp):
    with pytest.raises(UserError, match=r"nothing: no such file, folder or stem of parallel files \(nothing0\.lex"):
        read_webnlg(hyp, folder / "nothing")
    (folder / "gold-all-cat-reference1.lex").write_text("A\n\n")
    with pytest.raises(UserError, match=r"reference1\.lex: 2 lines, but .*reference0\.lex has 3"):
        read_webnlg(hyp, folder)
    hyp.write_text("x\n" * 5)
    with pytest.raises(UserError, match=r"none has 5 lines; name one stem"):
        read_webnlg(hyp, folder)
    with pytest.raises(UserError, match=r"5 hypotheses, but .*gold-old-cat-reference0\.lex has 2 lines"):
        read_webnlg(hyp, folder / "gold-old-cat-reference")


def test_an_item_without_reference(folder, hyp):
    (folder / "gold-all-cat-reference0.lex").write_text("a\n\nc\n")
    with pytest.raises(UserError, match=r"line 2 is empty in all 2 reference files"):
        read_webnlg(hyp, folder)
