"""The model that a finished training has written, loaded as anyone would load it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from autolora.configs.errors import UserError
from autolora.engine.retrain.methods import adapter as bottleneck
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.tasks.texts import LabelScale


def saved_model(base: BaseOnDisk, root: Path, cost: Mapping[str, Any]) -> Any:
    """The model in adapter/ or merged/ below `root`, on the CPU; the base itself where nothing was
    trained.

    `cost`: what the training has written of itself (retrain/summary.json). If the head predicts
    labels in the units of the file, the model then predicts on the scale of the training again.
    Raises UserError if the files are gone."""
    # the adapter is stock PEFT's: no projection is split for it
    model: Any = base.stock().model
    adapter = root / "adapter"
    merged = root / "merged"
    if (adapter / bottleneck.WEIGHTS).exists():
        model = bottleneck.load(model, adapter)
    elif adapter.exists():
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    elif merged.exists():
        whole = type(model).from_pretrained(merged, dtype=torch.float32)
        model.load_state_dict(whole.state_dict())
        model.requires_grad_(True)
    elif cost["trainable_parameters"]:
        raise UserError(
            f"--stage evaluate: {root} has no trained model any more; --stage retrain trains one"
        )
    scale = cost["label_scale"]
    if scale is not None and scale["in_head"]:
        LabelScale(-scale["mean"] / scale["deviation"], 1 / scale["deviation"]).into_head(model)
    return model.eval()
