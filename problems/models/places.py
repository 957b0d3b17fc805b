"""Where the files of a configured model lie on this machine."""

import importlib.util
import json
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.places import PACKAGE, from_home

GGUF = ".gguf"


def locate(name: str) -> str:
    """What transformers loads for a configured name: the folder if it begins with `package:`, else the name itself.

    The user's home replaces a '~' at the beginning of the name.

    Raises UserError when the package or its folder is missing, or the folder holds an adapter and no model.
    """
    if not name.startswith(PACKAGE):
        path = from_home(name)
        _refuse_adapter(path)
        return path
    package, _, folder = name.removeprefix(PACKAGE).partition("/")
    # find_spec does not run the package: some of them load their model on import.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"--model.name: no installed package {package!r}; install it or name a local folder or hub model"
        )
    inside = Path(spec.submodule_search_locations[0]) / folder
    if not inside.exists():
        raise UserError(f"--model.name: package {package!r} has no {folder!r}")
    return str(inside)


def _refuse_adapter(name: str) -> None:
    """Raises UserError for a folder that holds a PEFT adapter: only the adapter's base model can be searched."""
    record = Path(name) / "adapter_config.json"
    if record.is_file() and not any(Path(name).glob("model*.safetensors")):
        try:
            base = json.loads(record.read_text(encoding="utf-8")).get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError, RecursionError):
            base = None
        raise UserError(f"--model.name: {name} holds an adapter, not a model; name its base model (it says: {base})")
