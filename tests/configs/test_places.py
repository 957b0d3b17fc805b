"""Which names of models another machine understands."""

from pathlib import Path

from configs.places import is_local, portable_name


def test_only_a_local_folder_or_file_has_no_name_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.touch()
    for name in ("org/model", "org/model/x.gguf"):
        assert (is_local(name), portable_name(name)) == (False, name)
    assert (is_local("package:a/b"), portable_name("package:a/b")) == (True, "package:a/b")
    for path in (tmp_path, file):
        assert (is_local(str(path)), portable_name(str(path))) == (True, None)
