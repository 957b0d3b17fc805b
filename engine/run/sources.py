"""What a run reads of other runs: ranks (lora.ranks_from), a search (answer.from), components (retrain.init)."""

from pathlib import Path
from typing import Any

from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.user_class import digest
from autolora.engine import ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.manifest import digest_of


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with {seed}, {task} and {runs} replaced by the run's own seed, task and runs_folder."""
    for name, value in {"seed": config.seed, "task": config.task.result_name, "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()


def named_ranks(config: RunConfig) -> str | None:
    """lora.ranks_from; None for a method without it."""
    found: str | None = getattr(getattr(config, "lora", None), "ranks_from", None)
    return found


def ranks_from(config: RunConfig) -> Path:
    """The ranks.json that lora.ranks_from names, itself or by its folder."""
    path = filled_in(str(named_ranks(config)), config)
    return RunFolder(path).ranks if path.is_dir() else path


def source_of(config: RunConfig) -> RunFolder | None:
    """The run whose search is copied; None for a run that does its own search."""
    named = config.answer.from_run if isinstance(config, Autolora) else None
    return None if named is None else RunFolder(filled_in(named, config))


def adapter_to_start_from(config: RunConfig) -> Path | None:
    """The folder of the cut adapter from which the training goes on; None if it does not start from one."""
    start = config.retrain.start
    folder = None if start in ("scratch", "search") else filled_in(start, config)
    return folder if folder is not None and (folder / "adapter_config.json").exists() else None


def other_run(config: RunConfig) -> RunFolder | None:
    """The other run whose searched components the training starts from; None if there is no such run."""
    start = config.retrain.start
    if start in ("scratch", "search") or adapter_to_start_from(config) is not None:
        return None
    return RunFolder(filled_in(start, config))


def components_file(config: RunConfig, own: RunFolder) -> Path | None:
    """The weights from which the training starts; None if they are fresh."""
    if (adapter := adapter_to_start_from(config)) is not None:
        return adapter / "adapter_model.safetensors"
    if config.retrain.start == "search":
        return own.search_weights
    other = other_run(config)
    return None if other is None else other.search_weights


def inputs_in_files(config: RunConfig, folder: RunFolder) -> dict[str, tuple[Any, str]]:
    """The inputs that lie in small files: name -> their content or digest, and where."""
    found: dict[str, tuple[Any, str]] = {}
    if isinstance(config, Autolora) and (own := digest(config.hypergradient.type)):
        found["own hypergradient"] = own, f"--hypergradient.type: {config.hypergradient.type}"
    if folder.search_numbers.exists():
        found["search"] = digest_of(folder.search_numbers), str(folder.search)
    if folder.measurement.exists():
        found["measurement"] = digest_of(folder.measurement), str(folder.measurement)
    path = ranks_from(config) if named_ranks(config) else folder.ranks
    if path.exists() and (config.searches or named_ranks(config)):
        record = ranks.load(path)
        found["ranks"] = {"k": record.k, **record.kept}, str(path)
    weights = components_file(config, folder)
    if weights is not None and weights.exists():
        found["components"] = digest_of(weights), f"--retrain.init: {weights}"
    return found
