"""Choose the ranks by a rule from what was measured."""

from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig

from autolora.configs.measure import RuleConfig
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine import ranks
from autolora.engine.export.lora_config import (
    adapter_config,
    config_for_trainers,
    save_lora_config,
)
from autolora.engine.measure_search import MeasuredSearch
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.rules import rule_of
from autolora.engine.search.searched import Searched
from autolora.engine.world import Tracking, World
from autolora.problems.tasks.scoring import Scoring


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run: their record, and PEFT's LoraConfig at them, for trainers elsewhere."""

    record: RankRecord
    lora_config: LoraConfig

    def save(self, root: Path) -> None:
        """Writes lora_config/ and, last, ranks.json."""
        save_lora_config(self.lora_config, root / "lora_config")
        ranks.save(self.record, root / "ranks.json")


def choose(
    searched: Searched,
    measured: MeasuredSearch,
    rule: RuleConfig,
    scoring: Scoring,
    lora: LoraSettings,
    scale: str,
    model: ModelConfig,
    world: World,
) -> Ranks:
    """The ranks by the rule. `scale`: retrain.scale, at which the ranks will be trained; `model`:
    names the base.

    Raises UserError for what the user must change."""
    chosen = rule_of(rule, searched.sizes).choose(measured.record)
    record = ranks.with_scale(chosen, lora, scale, model)
    whole = list(searched.peft.get("modules_to_save", []))
    world.begin()
    send_ranks(record, world.tracker)
    settings = adapter_config(record, lora, scoring.peft_type, whole)
    settings.fan_in_fan_out = searched.peft.get("fan_in_fan_out", False)
    return Ranks(record, config_for_trainers(settings, record, model))


def send_ranks(record: RankRecord, tracker: Tracking) -> None:
    """Sends the chosen ranks; if they were measured, also the gain, the sufficient rank, the
    shares, and the curve. docs/run-folder.md describes it for users."""
    values: dict[str, float] = {"choose/mean_rank": record.mean_rank}
    if (evidence := record.evidence) is not None:
        for name in ("gain", "gain_standard_error", "share_total"):
            values[f"measure/{name}"] = getattr(evidence, name)
        if (enough := evidence.sufficient_rank(record.tolerance)) is not None:
            values["choose/sufficient_rank"] = enough
        named = [(f"rank {point.at:g}", point) for point in evidence.rank_curve]
        named += [
            (f"budget {point.at:g} by {evidence.budget_rule}", point)
            for point in evidence.budget_curve
        ]
        columns = ["cut", "LoRA parameters", "loss", "standard error", "kept", "its standard error"]
        rows = [
            [name, x.parameters, x.loss, x.standard_error, x.kept, x.kept_standard_error]
            for name, x in named
        ]
        tracker.table("measure/curve", columns, rows)
    tracker.log(values)
    layers = [[x.name, x.rank, x.layer_share, x.layer_share_standard_error] for x in record.layers]
    tracker.table("choose/ranks", ["layer", "rank", "share, nats", "its standard error"], layers)
