"""Which names of models another machine understands."""

from pathlib import Path

import pytest

from autolora.configs.places import from_home, is_hub_name, portable_name, short_name


def test_only_a_local_folder_or_file_has_no_name_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.touch()
    for name in ("org/model", "org/model/x.gguf"):
        assert portable_name(name) == name
    assert portable_name("package:a/b") == "package:a/b"
    for path in (tmp_path, file):
        assert portable_name(str(path)) is None


def test_a_path_may_begin_at_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert from_home("~/model") == f"{tmp_path}/model"
    assert (from_home("a/~"), from_home("~no such user/x")) == ("a/~", "~no such user/x")
    assert portable_name("~/model") is None


@pytest.mark.parametrize(
    ("path", "is_name"),
    [
        ("tner/bionlp2004", True),
        ("a/b.v2", False),
        ("a/v1.0", True),
        ("a/Llama-3.1-Pro-300K-Filtered", True),
        ("none.conll", False),
        ("data/none.CONLL", False),
        ("a/b/c", False),
    ],
)
def test_names_of_the_hub(path: str, is_name: bool) -> None:
    assert is_hub_name(path) is is_name


def test_the_short_name_of_a_repository_keeps_what_follows_a_dot() -> None:
    assert [short_name(path) for path in ("a/Hermes-2.5", "data/reviews.csv", "a.b")] == ["Hermes-2.5", "reviews", "a"]


def test_what_lies_here_is_no_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("mine/data", "home/data"):
        (tmp_path / folder).mkdir(parents=True)
    assert not is_hub_name("mine/data")
