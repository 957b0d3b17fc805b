"""Send the answer to a run's tracker; docs/wandb.md describes for users what is sent."""

from autolora.engine.ranks.grid import key_names
from autolora.engine.ranks.record import RankRecord
from autolora.engine.tracking import Tracker


def track(record: RankRecord, tracker: Tracker) -> None:
    """Sends the chosen rank of every layer and their mean; if they were measured, also the gain, the sufficient
    rank and the share of every layer, a chart and a table of the curve, and a table of the shares."""
    if not tracker.alive:
        return
    keys = key_names([layer.name for layer in record.layers])
    chosen: dict[str, float] = {f"answer/rank/{key}": x.rank for key, x in zip(keys, record.layers, strict=True)}
    tracker.log(chosen | {"answer/mean_rank": record.mean_rank})
    evidence = record.evidence
    if evidence is None:
        return
    values: dict[str, float] = {
        "answer/gain": evidence.gain,
        "answer/gain_standard_error": evidence.gain_standard_error,
        "answer/share_total": evidence.share_total,
    }
    enough = evidence.sufficient_rank(record.tolerance)
    if enough is not None:
        values["answer/sufficient_rank"] = enough
    shares_of = {key: layer.layer_share for key, layer in zip(keys, record.layers, strict=True)}
    values |= {f"share/{key}": share for key, share in shares_of.items() if share is not None}
    tracker.log(values)
    kept = {"part of the gain that is kept": [point.kept for point in evidence.rank_curve]}
    if evidence.learned:  # of a gain that is noise there are no parts
        tracker.lines("answer/same_rank_in_every_layer", [int(point.at) for point in evidence.rank_curve], kept)
    columns = ["cut", "LoRA parameters", "loss", "standard error", "kept", "its standard error"]
    rows = [
        [name, point.parameters, point.loss, point.standard_error, point.kept, point.kept_standard_error]
        for name, point in [
            *((f"rank {point.at:g}", point) for point in evidence.rank_curve),
            *((f"budget {point.at:g} by {evidence.budget_rule}", point) for point in evidence.budget_curve),
        ]
    ]
    tracker.table("answer/curve", columns, rows)
    shares = [
        [layer.name, layer.rank, layer.layer_share, layer.layer_share_standard_error]
        for layer in record.layers
        if layer.layer_share is not None
    ]
    tracker.table("answer/shares", ["layer", "rank", "share, nats", "its standard error"], shares)
