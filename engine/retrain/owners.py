"""Which method wrote a ranks.json, and which methods read that of another run; needs no torch."""

from autolora.configs.errors import UserError
from autolora.configs.methods import FACTS, readers
from autolora.engine import ranks
from autolora.engine.run.asked import Asked

OWNERS = {facts.rule: method for method, facts in FACTS.items() if facts.rule}
"""`rule` in a ranks.json -> the method that writes it. autolora owns every other value, such as "shares" or
"by hand"."""
READ_RANKS = readers("lora.ranks_from")
"""The methods that start from the ranks.json that lora.ranks_from names."""


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
