"""Names from outside: of models, rows, processes and JSON objects, and what of them a terminal may
be shown."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.launch import processes_started, speaks
from autolora.configs.locations import from_home, is_hub_name, portable_name, short_name
from autolora.configs.printable import printable
from autolora.engine.disk.files import read_json


def test_only_a_local_folder_or_file_has_no_name_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("org/model", "org/model/x.gguf", "package:a/b"):
        assert portable_name(name) == name
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert from_home("~/model") == f"{tmp_path}/model"
    assert from_home("a/~") == "a/~"
    assert portable_name("~/model") is None
    assert portable_name(str(tmp_path)) is None


def test_names_of_the_hub_and_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    there = ("tner/bionlp2004", "a/v1.0", "a/Llama-3.1-Pro-300K-Filtered")
    here = ("a/b.v2", "none.conll", "data/none.CONLL", "a/b/c", "mine/data")
    assert [name for name in (*there, *here) if is_hub_name(name)] == list(there)
    assert [short_name(path) for path in ("a/Hermes-2.5", "data/reviews.csv", "a.b")] == [
        "Hermes-2.5",
        "reviews",
        "a",
    ]


@pytest.mark.parametrize(
    ("variables", "started", "said"),
    [
        ({}, 1, True),
        ({"WORLD_SIZE": "3", "RANK": "0"}, 3, True),
        ({"WORLD_SIZE": "3", "RANK": "2"}, 3, False),
        ({"RANK": "3"}, 1, True),  # left over from elsewhere
    ],
)
def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], started: int, said: bool
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (processes_started(), speaks()) == (started, said)


def test_what_commands_a_terminal_is_spelled_out_and_every_other_letter_stays() -> None:
    for text, shown in (
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J", r"\x9b2J"),
        ("\udcff", r"\udcff"),
        ("[red]é☃ 中文 :smile:", "[red]é☃ 中文 :smile:"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ):
        assert printable(text) == shown
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_an_object_of_json_has_each_name_once(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    file.write_text('{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}', encoding="utf-8")
    assert read_json(file)["b"][1] == {"a": 3}
    file.write_text('{"b": [{"a": 1, "a": 2}]}', encoding="utf-8")
    with pytest.raises(UserError, match=r"ranks\.json.*'a' is given twice in one object"):
        read_json(file)
