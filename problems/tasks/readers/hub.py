"""Load the splits of a data set from the hub or from a local folder."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets.exceptions import DatasetsError, FileNotFoundDatasetsError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RevisionNotFoundError
from yaml import YAMLError

from autolora.configs.errors import UserError
from autolora.configs.places import is_hub_name
from autolora.problems.machine.hub import explain_missing

log = logging.getLogger("autolora.inputs")

T = TypeVar("T")


CONVERSION = "refs/convert/parquet"
"""The branch in which the hub itself keeps the rows of a repository as parquet, a folder for each configuration."""


def load_splits(
    path: str, hub_config: str | None, name: str, revision: str | None = None, *, may_choose: bool = False
) -> Any:
    """The splits of a data set on the hub or in a local folder.

    may_choose: `hub_config` is task.configuration. If a script in the repository makes the rows, it is not run: they
    are read from the hub's CONVERSION. Raises UserError, naming path and task, if the splits cannot be loaded.
    """
    if Path(path).is_file():
        raise UserError(
            f"--task.path: {path} is a file, but {name} is read from a folder with its splits or from the hub; for a "
            f"table of your own give --task.type text or, for generation, no --task.benchmark"
        )
    # Without a choice, the name is that of a part of the data set, such as sst2 of GLUE.
    with explain_missing("--task.path", path if may_choose else f"{path}, {name}"):
        try:
            found = _load(path, hub_config, revision, may_choose)
        except FileNotFoundDatasetsError:  # a wrong name, or no access: `explain_missing` knows what helps
            raise
        except (DatasetsError, YAMLError, StopIteration) as error:
            # Only its cause says what is wrong; the package datasets raises StopIteration for a file without content.
            reason = " ".join(str(error.__cause__ or error).split())[:200] or "a file of the split is empty"
            raise UserError(
                f"--task.path: {path} cannot be read ({reason}); allowed: files of one kind, all with the same columns"
            ) from error
    if may_choose and (read := next(iter(found.values())).config_name) not in (None, "default"):
        log.info("data: configuration %s of %s", read, path)
    return found


def _load(path: str, hub_config: str | None, revision: str | None, may_choose: bool) -> Any:
    """Loads a data set; if a script in the repository makes its rows, loads the hub's conversion.

    The script is looked for first: the package datasets itself would use whatever its cache has under that name.
    """
    if (Path(path) / "state.json").is_file():  # one Dataset, as its save_to_disk writes it
        return {"train": datasets.load_from_disk(path)}
    if is_hub_name(path) and not constants.HF_HUB_OFFLINE:
        log.info("data: %s from the hub; what is not in the cache is downloaded now", path)
    if revision == CONVERSION:
        return _converted(path, hub_config, may_choose)
    options: dict[str, Any] = {"revision": revision}
    if not is_hub_name(path) or not _is_script(path, None if may_choose else hub_config, revision):
        if not is_hub_name(path):
            _refuse_pattern(Path(path))
            # Of a copy from the hub, README.md counts the rows; a user may have removed some.
            options["verification_mode"] = "no_checks"
        chosen = _choice(path, hub_config, revision) if may_choose else hub_config
        return datasets.load_dataset(path, chosen, cache_dir=cache_of(Path(path)), **options)
    if revision is not None:
        raise UserError(
            f"--task.revision: {path} is made by a script at {revision!r}, and the hub converts only the newest "
            f"version; leave the key out, or give {CONVERSION}"
        )
    log.info("%s is made by a script, which is not run: its rows are read from the hub's conversion to parquet", path)
    return _converted(path, hub_config, may_choose)


def _refuse_pattern(folder: Path) -> None:
    """Raises UserError if the package datasets would take the folder's absolute path for a pattern, as it would then
    say that the folder is empty."""
    if found := [letter for letter in "*?[" if letter in str(folder.resolve())]:
        raise UserError(
            f"--task.path: {folder.resolve()} has {' and '.join(map(repr, found))} in its path, which the package "
            f"datasets takes for a pattern; give the folder, and those around it, names without *, ? and ["
        )


def _choice(path: str, wanted: str | None, revision: str | None) -> str | None:
    """The configuration with the name `wanted`; None where datasets itself knows which one to load.

    Raises UserError, naming the configurations, where one of several must be chosen.
    """
    if is_hub_name(path) and constants.HF_HUB_OFFLINE:  # the cache tells only whether it has the one that is wanted
        return wanted
    names = datasets.get_dataset_config_names(path, revision=revision)
    if wanted is None and (len(names) == 1 or datasets.get_dataset_default_config_name(path, revision=revision)):
        return None
    if wanted not in names:
        raise _several(path, wanted, names)
    return wanted


def _several(path: str, wanted: str | None, names: Sequence[str]) -> UserError:
    return UserError(
        f"--task.configuration: {repr(wanted) if wanted else 'null'} is not allowed; {path} has the configurations "
        f"{_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _is_script(path: str, hub_config: str | None, revision: str | None) -> bool:
    """Whether a script in the repository makes its rows; without a network, whether the cache has their conversion."""
    try:
        if constants.HF_HUB_OFFLINE:
            return revision is None and bool(_download(path, hub_config or "*"))
        return _hub().file_exists(path, f"{path.split('/')[-1]}.py", repo_type="dataset", revision=revision)
    except Exception:  # not in the cache, no access, ...: the load that follows reports it
        return False


def _hub() -> HfApi:
    return HfApi(endpoint=datasets.config.HF_ENDPOINT)


def _converted(path: str, hub_config: str | None, may_choose: bool) -> Any:
    """The splits of a configuration (`may_choose` or None: of the only one), from the hub's conversion."""
    configs = _configs_of_conversion(path, None if may_choose else hub_config)
    if may_choose and hub_config not in configs:
        if len(configs) > 1:
            raise _several(path, hub_config, configs)
        hub_config = None
    if hub_config is None and len(configs) > 1:
        raise UserError(
            f"--task.path: the conversion of {path} has several configurations ({', '.join(configs)}); "
            f"this task reads data sets with one: download its files, and give their folder"
        )
    if hub_config not in (None, *configs):
        raise UserError(f"--task.path: the conversion of {path} has no {hub_config!r}; it has: {', '.join(configs)}")
    config = hub_config or configs[0]
    folder = _download(path, config) / config
    return datasets.load_dataset(str(folder), cache_dir=cache_of(folder))


def _download(path: str, config: str) -> Path:
    """The folder of a conversion, with the files of a configuration; from the cache without a network."""
    return Path(_hub().snapshot_download(
        path, repo_type="dataset", revision=CONVERSION, allow_patterns=f"{config}/*.parquet"
    ))  # fmt: skip


def _configs_of_conversion(path: str, hub_config: str | None) -> list[str]:
    """The configurations that are converted; without a network the one that is asked for, or those in the cache.

    Raises UserError where there is no conversion.
    """
    if constants.HF_HUB_OFFLINE:
        return [hub_config] if hub_config else sorted(x.name for x in _download(path, "*").iterdir() if x.is_dir())
    try:
        files = _hub().list_repo_files(path, repo_type="dataset", revision=CONVERSION)
    except RevisionNotFoundError:
        files = []
    configs = sorted({file.split("/")[0] for file in files if file.endswith(".parquet") and "/" in file})
    if not configs:
        raise UserError(
            f"--task.path: {path} is made by a script, which is not run, and the hub has not converted it to parquet "
            f"({CONVERSION}); give its files"
        )
    return configs


def split_of(splits: Mapping[str, T], name: str, source: str) -> T:
    """One split of those that `source` has. Raises UserError, naming them, where it is not among them."""
    if name not in splits:
        key = "path" if name == "train" else "evaluation_split"
        raise UserError(f"--task.{key}: {source} has no split {name!r}; it has: {', '.join(splits)}")
    return splits[name]


def cache_of(path: Path) -> str | None:
    """A folder in datasets' cache for the files of a local folder as they are now; None for a hub name.

    datasets itself looks only at the folder's last name and the configuration: it would return the rows of another
    folder of that name, or rows from before a change.
    """
    if not path.is_dir():
        return None
    files = sorted(file for file in path.resolve().rglob("*") if file.is_file())
    content = "".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in files)
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "folders" / hashlib.sha256(content.encode()).hexdigest()[:16])
