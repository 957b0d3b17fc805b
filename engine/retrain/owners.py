"""Which method wrote a ranks.json; needs no torch."""

from autolora.configs.errors import UserError
from autolora.configs.schema import METHODS
from autolora.engine import ranks
from autolora.engine.run.asked import Asked

OWNERS = {kind.recorded_rule: method for method, kind in METHODS.items() if kind.recorded_rule}
"""`rule` in a ranks.json -> the method that writes it. autolora owns every other value, such as "shares" or
"by hand"."""


def refuse_other_ranks(asked: Asked) -> None:
    """Refuses a folder that holds another method's ranks.json, which this run would overwrite or take for its own."""
    path = asked.folder.ranks
    if asked.stage == "report" or not path.exists():
        return
    rule = ranks.load(path).rule
    if OWNERS.get(rule, "autolora") != asked.config.method:
        raise UserError(
            f"--method: {path} holds ranks of rule {rule!r}, which another method wrote; use --name to start another "
            f"run, or --stage all --overwrite to replace this one"
        )
