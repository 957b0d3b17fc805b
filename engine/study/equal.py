"""Tell of cells of a study that would be equal runs, because nothing reads the settings in which they differ."""

import logging
from collections.abc import Sequence
from functools import reduce

from autolora.configs.keys import SPELLED
from autolora.configs.schema import StudyConfig
from autolora.configs.unread import reason
from autolora.engine.study.cells import Cell, own_settings

log = logging.getLogger("autolora")


def tell_equal(study: StudyConfig, cells: Sequence[Cell]) -> None:
    """Warns, in one line, of cells that differ only in keys that neither of them reads."""
    keys = {SPELLED.get(key, key) for cell in cells for key in own_settings(study, cell.values)}
    first: dict[str, Cell] = {}
    equal = []
    for cell in cells:
        read = {
            key: reduce(getattr, key.split("."), cell.config) for key in sorted(keys) if not reason(key, cell.config)
        }
        other = first.setdefault(repr(read), cell)
        if other is not cell:
            equal.append((other, cell))
    if not equal:
        return
    names = [str(cell.config.name) for cell in equal[0]]
    log.warning(
        "--study: %d of the %d cells will be equal runs to others, as nothing reads the settings in which they "
        "differ, such as %s and %s; study.exclude leaves cells out", len(equal), len(cells), *names,
    )  # fmt: skip
