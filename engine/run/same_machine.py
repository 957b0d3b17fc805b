"""Say that half-done work resumes on another kind of device, or in another precision, than the one it began with.

`--device auto` and `--precision auto` mean what the machine has, so the same command may mean something else on
another machine, or on the same one once its GPU's driver is gone.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it needs torch, which takes seconds to load
    from autolora.problems.machine.compute import Compute

log = logging.getLogger("autolora")


def machine_of(compute: "Compute") -> dict[str, Any]:
    """What `auto` stands for on this machine, as a checkpoint stores it."""
    return {"device": compute.device.type, "bf16": compute.bf16}


def warn_of_another_machine(stage: str, began: Mapping[str, Any], compute: "Compute") -> None:
    """Warns if the work resumes elsewhere. `began`: what the checkpoint stores, empty for an older one."""
    resumes = machine_of(compute)
    if began and began != resumes:
        log.warning(
            "%s: began on %s and resumes on %s, so it ends at other numbers than without the stop",
            stage, _words(began), _words(resumes),
        )  # fmt: skip


def _words(machine: Mapping[str, Any]) -> str:
    return f"{machine['device']} in {'bf16' if machine['bf16'] else 'fp32'}"
