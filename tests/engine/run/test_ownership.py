"""A folder that is none of this program's is neither written nor replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.ownership import refuse_foreign, refuse_mounted, refuse_occupied

MARK = "method: lora\nseed: 0\nsearch: {}\nlora: {}\nretrain: {}\n"


@pytest.fixture
def asked(tiny_config: Callable[..., RunConfig]) -> Callable[..., Asked]:
    """asked("retrain", overwrite=True): what a command asks of a folder, which is there and empty."""
    config = tiny_config()
    folder = RunFolder.of(config)
    folder.root.mkdir(parents=True)
    return lambda stage="all", *, overwrite=False: Asked(config, folder, stage, overwrite)


def put(asked: Asked, *names: str) -> None:
    for name in names:
        path = asked.folder.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("mine")


REFUSED = [
    ("all", ("notes.txt",)),
    ("all", ("trials/mine.txt",)),
    ("all", ("retrain/",)),
    ("all", ("metrics.json", "wandb/")),
    ("all", ("ranks.json",)),
    ("search", ("search/", "ranks.json")),
    ("retrain", ("ranks.json", "search/", "data.csv")),
    ("all", ("config.yaml", "train.csv")),
]


@pytest.mark.parametrize(("stage", "content"), REFUSED)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_refused(
    asked: Callable[..., Asked], stage: Any, content: tuple[str, ...], overwrite: bool
) -> None:
    wanted = asked(stage, overwrite=overwrite)
    put(wanted, *content)
    with pytest.raises(UserError, match=r"^--name: .*tiny holds .*, and no config\.yaml of a run") as caught:
        refuse_foreign(wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["- a\n", "seed: 1\nmethod: x\n", "seed: [\n", "[" * 5000, ""])
def test_a_config_of_another_program_is_no_mark(asked: Callable[..., Asked], config: str) -> None:
    (asked().folder.root / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"holds config\.yaml, and no config\.yaml of a run.* there is damaged, or"):
        refuse_foreign(asked())


TAKEN: list[tuple[str, tuple[str, ...]]] = [
    ("all", ()),
    ("all", ("wandb/offline/x", "wandb_id", ".config.yaml.tmp", ".DS_Store")),
    ("retrain", ("ranks.json",)),
    ("retrain", ("ranks.json", "search/weights.safetensors")),
]


@pytest.mark.parametrize(("stage", "content"), TAKEN)
def test_what_a_run_writes_before_it_trains_is_no_other_programs(
    asked: Callable[..., Asked], stage: Any, content: tuple[str, ...]
) -> None:
    put(asked(), *content)
    refuse_foreign(asked(stage))


def test_the_folder_of_a_run_may_hold_the_users_files(asked: Callable[..., Asked]) -> None:
    put(asked(), "notes.txt", "trials/mine.txt")
    (asked().folder.root / "config.yaml").write_text(MARK)
    refuse_foreign(asked(overwrite=True))


def test_a_file_where_the_folder_belongs_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    folder = RunFolder.of(tiny_config())
    folder.root.parent.mkdir()
    folder.root.touch()
    with pytest.raises(UserError, match=r"^--runs_folder: cannot write .*tiny \(it is a file\)"):
        refuse_foreign(Asked(tiny_config(), folder))


def test_a_mount_point_is_not_replaced(tiny_config: Callable[..., RunConfig]) -> None:
    """/proc is one wherever the tests run."""
    folder = RunFolder(Path("/proc"))
    if not folder.root.is_mount():
        pytest.skip("no /proc here")
    with pytest.raises(UserError, match=r"^--overwrite: /proc is a mount point, which new results cannot replace"):
        refuse_mounted(Asked(tiny_config(), folder, "all", overwrite=True))
    refuse_mounted(Asked(tiny_config(), folder, "all", overwrite=False))
    refuse_mounted(Asked(tiny_config(), folder, "report", overwrite=True))


def test_a_link_that_leads_to_itself_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    folder = RunFolder.of(tiny_config())
    folder.root.parent.mkdir()
    folder.root.symlink_to(folder.root)
    with pytest.raises(UserError, match=r"^--runs_folder: cannot write .*tiny \(its link leads to itself\)"):
        refuse_foreign(Asked(tiny_config(), folder))


OCCUPIED: dict[str, Callable[[Path], object]] = {
    "a file": lambda place: place.write_text("mine"),
    "a link": lambda place: place.symlink_to(place.parent),
    "a link that leads nowhere": lambda place: place.symlink_to("nowhere"),
    "a folder": lambda place: (place / "mine").mkdir(parents=True),
}


@pytest.mark.parametrize("name", ["overwrite", "set-aside", "replaced"])
@pytest.mark.parametrize("what", OCCUPIED)
def test_what_is_the_users_in_the_places_of_an_overwrite_is_not_removed(
    tmp_path: Path, asked: Callable[..., Asked], name: str, what: str
) -> None:
    place = asked().folder.root.with_name(f".tiny.{name}")
    OCCUPIED[what](place)
    with pytest.raises(UserError, match=rf"^--overwrite: .*\.tiny\.{name}, which this program uses .*; move it away"):
        refuse_occupied(asked(overwrite=True))
    refuse_occupied(asked())
    refuse_occupied(asked("report", overwrite=True))


def test_half_done_results_are_no_users(asked: Callable[..., Asked]) -> None:
    root = asked().folder.root
    for name in ("overwrite", "set-aside"):
        for path in (".overwrite.json", "..overwrite.json.tmp", "wandb/x", "search/mine", ".ranks.json.tmp"):
            file = root.with_name(f".tiny.{name}") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    refuse_occupied(asked(overwrite=True))
