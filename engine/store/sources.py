"""What a run reads of other runs: ranks (lora.ranks_from), a search (measure.from), components
(retrain.init)."""

from pathlib import Path
from typing import Any

from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.user_class import file_of, is_own
from autolora.engine import ranks
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.plan import BASE_MODEL
from autolora.problems.machine.content import base_digest, digest_of


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with {seed}, {task} and {runs} replaced by the run's own seed, task and
    runs_folder."""
    for name, value in {
        "seed": config.seed,
        "task": config.task.result_name,
        "runs": config.runs_folder,
    }.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()


def ranks_from(config: RunConfig) -> Path:
    """The ranks.json that lora.ranks_from names, itself or by its folder."""
    path = filled_in(str(config.of_lora("ranks_from")), config)
    return RunFolder(path).ranks if path.is_dir() else path


def source_of(config: RunConfig) -> RunFolder | None:
    """The run whose search is copied; None for a run that does its own search."""
    named = config.measure.from_run if isinstance(config, Autolora) else None
    return None if named is None else RunFolder(filled_in(named, config))


def other_run(config: RunConfig) -> RunFolder | None:
    """The other run whose searched components the training starts from; None if there is no such
    run."""
    start = config.retrain.start
    folder = RunFolder(filled_in(start, config))
    return None if start in ("scratch", "search") or _adapter(folder).exists() else folder


def _adapter(folder: RunFolder) -> Path:
    """Where the weights of a cut adapter lie, of a folder that is one."""
    return folder.root / "adapter_model.safetensors"


def components_file(config: RunConfig, this: RunFolder) -> Path | None:
    """The weights from which the training starts, of a search or of a cut adapter; None if they are
    fresh."""
    start = config.retrain.start
    if start == "scratch":
        return None
    folder = this if start == "search" else RunFolder(filled_in(start, config))
    return _adapter(folder) if _adapter(folder).exists() else folder.search_weights


def inputs_in_files(config: RunConfig, folder: RunFolder) -> dict[str, tuple[Any, str]]:
    """The inputs that lie in files: name -> their content or digest, and where."""
    inputs: dict[str, tuple[Any, str]] = {}
    base = base_digest(config.model.name, config.model.revision)
    if base is not None:
        inputs[BASE_MODEL] = base, f"--model.name: {config.model.name}"
    kind = config.hypergradient.type if isinstance(config, Autolora) else ""
    if is_own(kind) and file_of(kind).exists():
        inputs["own hypergradient"] = digest_of(file_of(kind)), f"--hypergradient.type: {kind}"
    if folder.search_numbers.exists():
        inputs["search"] = digest_of(folder.search_numbers), str(folder.search)
    if folder.measurement.exists():
        inputs["measurement"] = digest_of(folder.measurement), str(folder.measurement)
    path = ranks_from(config) if config.of_lora("ranks_from") else folder.ranks
    if path.exists() and (config.searches or config.of_lora("ranks_from")):
        record = ranks.load(path)
        inputs["ranks"] = {"k": record.k, **record.kept}, str(path)
    weights = components_file(config, folder)
    if weights is not None and weights.exists():
        inputs["components"] = digest_of(weights), f"--retrain.init: {weights}"
    return inputs
