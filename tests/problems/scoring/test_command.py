"""`--score` from the files to the printed and written scores, and what --out may be."""

import json
import os

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring import score


def write(folder, **texts):
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


def test_e2e(tmp_path, capsys):
    hyp, ref = write(tmp_path, hyp="a b c d\n\n", ref="a b c d\nx\n\ny\n")
    out = tmp_path / "new" / "out.json"
    scores = score("e2e", hyp, ref, str(out), ["BLEU", "NIST"])
    assert json.loads(out.read_text()) == scores
    assert list(scores) == ["BLEU", "NIST"]
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]
    printed = capsys.readouterr().out
    assert "BLEU" in printed
    assert f"{scores['NIST']:.4f}" in printed


def test_webnlg(tmp_path):
    write(tmp_path, r0="a b c d\ne\n", r1="\nf\n")
    hyp = write(tmp_path, hyp="a b c d\nf\n")[0]
    assert score("webnlg", hyp, str(tmp_path / "r"), None, ["TER"]) == {"TER": 0}


def test_ner(tmp_path):
    hyp, ref = write(tmp_path, hyp="a B-DNA\nb O\n", ref="a B-DNA\nb B-RNA\n")
    out = tmp_path / "out.json"
    scores = score("ner", hyp, ref, str(out))
    assert scores["precision"] == 1
    assert scores["recall"] == 0.5
    assert json.loads(out.read_text()) == scores
    assert set(score("ner", hyp, ref, None, ["f1"])) == {"f1", "DNA.f1", "RNA.f1"}


@pytest.mark.usefixtures("no_java")
def test_java_is_asked_for_before_files_are_read():
    with pytest.raises(UserError, match=r"METEOR.*needs Java.* leave METEOR, ROUGE_L, CIDEr out of --metrics$"):
        score("e2e", "missing", "missing", None)


def test_out_must_be_a_file(tmp_path):
    hyp, ref = write(tmp_path, hyp="a\n", ref="a\n")
    with pytest.raises(UserError, match="is a folder; name a file"):
        score("e2e", hyp, ref, str(tmp_path), ["BLEU"])
    with pytest.raises(UserError, match="cannot be written"):
        score("e2e", hyp, ref, str(tmp_path / "hyp" / "out.json"), ["BLEU"])


def test_out_is_none_of_the_files_that_are_scored(tmp_path):
    hyp, ref = write(tmp_path, hyp="a O\n", ref="a O\n")
    (tmp_path / "link").symlink_to(ref)
    for out in (hyp, ref, str(tmp_path / "link")):
        with pytest.raises(UserError, match="is one of the files that are scored"):
            score("ner", hyp, ref, out)


def test_a_link_stays_one_and_the_file_behind_it_is_written(tmp_path):
    hyp, ref, behind = write(tmp_path, hyp="a O\n", ref="a O\n", behind="old")
    (tmp_path / "link").symlink_to(behind)
    scores = score("ner", hyp, ref, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "behind").read_text()) == scores


def test_a_pipe_is_written_to_and_stays(tmp_path):
    """A file in place of /dev/stdout would be one for all programs."""
    hyp, ref = write(tmp_path, hyp="a O\n", ref="a O\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    scores = score("ner", hyp, ref, str(pipe))
    assert pipe.is_fifo()
    assert json.loads(os.read(reader, 1000)) == scores
    os.close(reader)
