"""The launchers, which start the cells of a study. Each is registered here under its name in `study.launcher`."""

from autolora.engine.study.launchers.base import Job, Launcher, Running
from autolora.engine.study.launchers.on_ray import check_ray, on_ray
from autolora.engine.study.launchers.serial import serially

LAUNCHERS: dict[str, Launcher] = {"serial": Launcher(serially), "ray": Launcher(on_ray, check_ray)}

__all__ = ["LAUNCHERS", "Job", "Launcher", "Running"]
