"""`run.py measure` and `run.py cut`: an adapter in a folder or on the hub, on the rows of a file or
a data set."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from peft import PeftModel, load_peft_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.files import to_text
from autolora.configs.layers import sources_of
from autolora.configs.requests import AdapterRequest
from autolora.configs.schema import Sources
from autolora.engine import ranks
from autolora.engine.api.adapter import MeasuredAdapter, measured, refuse_sizes
from autolora.engine.disk.files import read_json, remove, replacing, write_text
from autolora.engine.export.adapter import save_tokenizer
from autolora.engine.inputs import Inputs, base_of, read_inputs
from autolora.engine.interrupt import StopRequest
from autolora.engine.measure.lora import PREFIX, layers_of
from autolora.engine.measure.moments import Moments
from autolora.engine.measure.passes import Passes
from autolora.engine.report.measured import measured_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.retrain.judge import judge
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import console
from autolora.engine.tracking.picture import rank_map
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute, choose_compute
from autolora.problems.machine.content import digest_of
from autolora.problems.machine.hub import explain_missing
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.rows import Rows

log = logging.getLogger("autolora")

BATCH = {True: 8, False: 64}
"""Rows at a time of language models and of others, where no gradient is taken."""
GRADIENT_BATCH = {True: 8, False: 16}
"""Rows at a time where one is."""
_TYPES = {"SEQ_CLS": "text", "TOKEN_CLS": "tokens", "CAUSAL_LM": "chat"}
"""PEFT's task type -> the task.type with which its rows are read, unless the user names one."""


def run_adapter_request(request: AdapterRequest, stop: StopRequest) -> None:
    """Measures an adapter and, if asked, cuts it. Raises UserError for what the user must
    change."""
    here = Path(request.adapter).expanduser()
    source = _adapter(request.adapter)
    name = here.resolve().name if here.exists() else here.name
    folder = Path(request.folder or (here.parent if here.exists() else Path()) / f"{name}-measured")
    if request.cuts:
        _refuse_other_out(request)
    sources = _sources(request, source)
    compute = choose_compute(sources.device, sources.precision)
    world = World(compute, progress=Bar, stop=stop)
    # Numbers as labels stay in their own units, not on the scale that a training would learn.
    inputs = read_inputs(sources, tokenizer=_tokenizer(source), own_units=True)
    _refuse_other_classes(inputs, source)
    base = base_of(sources, inputs, compute, check=world.check)
    adapter = _measured(sources, inputs, base, request, source, folder, world)
    console.print(str(adapter))
    write_text(folder / "curve.csv", adapter.curve.to_csv(index=False))
    write_text(folder / "shares.csv", adapter.shares.to_csv(index=False))
    said = "\n".join(filter(None, (adapter.evidence.few, adapter.advice)))
    sections = measured_sections(adapter.record, said, "these rows")
    if request.cuts:
        sections.append(_cut(request, adapter, inputs, base, world))
    told = (
        f"{request.adapter} on {sources.model.name}, measured on {adapter.evidence.rows} "
        f"rows of {request.data}."
    )
    settings = to_text(sources.model_dump(mode="json"))
    write_page(folder / "report.html", name, told, sections, settings, folder)
    _tell("measured", folder / "measure.json")
    _tell("report", folder / "report.html")


def _note(request: AdapterRequest) -> str:
    """The cut in words."""
    size = {**request.size, "padded": request.padded}
    return (
        f"{request.adapter} cut by {request.data}: "
        f"{', '.join(f'{k} {v}' for k, v in size.items() if v)}"
    )


def _refuse_other_out(request: AdapterRequest) -> None:
    """Raises UserError for sizes that no cut has, and for a folder that holds another adapter."""
    refuse_sizes(**request.size)
    out = Path(request.out)
    known = ranks.load(out / "ranks.json").note if (out / "ranks.json").exists() else None
    if (out / "adapter_config.json").exists() and known != _note(request):
        raise UserError(
            f"OUT: {out} holds another adapter ({known or 'not cut here'}); give another folder"
        )


def _adapter(name: str) -> Path:
    """The folder of an adapter, downloaded from the hub if it is none here."""
    folder = Path(name).expanduser()
    if not folder.exists():
        with explain_missing("ADAPTER", name):
            folder = Path(snapshot_download(name))
    if not (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: holds no adapter_config.json; give an adapter's folder, such as "
            "runs/X/adapter"
        )
    return folder


def _sources(request: AdapterRequest, source: Path) -> Sources:
    """From where the rows are read and the base model is loaded."""
    own = read_json(source / "adapter_config.json")
    file = read_json(source / "config.json").get("gguf_file")
    base = own.get("base_model_name_or_path")
    base = request.base or (f"{base}/{file}" if base and file else base)
    kind = request.settings.get("task.type") or _TYPES.get(own.get("task_type") or "")
    if not base or kind is None:
        raise UserError(
            f"{source}: adapter_config.json names no base model or no task_type of "
            f"{', '.join(_TYPES)}; give --base or --task.type"
        )
    given = {
        "model.name": base,
        "model.revision": own.get("revision"),
        "task.type": kind,
        "task.path": request.data,
        "task.test_path": request.test,
    }
    known = {key: value for key, value in given.items() if value is not None}
    return sources_of({**known, **request.settings})


def _tokenizer(source: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer and the template of the adapter's folder; None if it has none."""
    if not (source / "tokenizer_config.json").exists():
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def _measured(
    sources: Sources,
    inputs: Inputs,
    base: BaseOnDisk,
    request: AdapterRequest,
    source: Path,
    folder: Path,
    world: World,
) -> MeasuredAdapter:
    """The measured adapter: by the folder's measure.json if that is of the same adapter, base, rows
    and settings."""
    whole = Rows.joined(inputs.rows.learnable)
    # the same order with --test, beside which nothing is held out
    rows = whole.select(np.argsort(whole.groups, kind="stable"))
    model, off = load_adapter(base, source, world.compute)
    made_with = json.dumps(
        {
            "settings": sources.model_dump(mode="json", exclude={"task": {"path", "test_path"}}),
            "rows": request.rows,
            "adapter": [digest_of(file) for file in sorted(source.glob("adapter_*"))],
            "base": base.digest,
            "data": rows.digest,
            "precision": str(world.compute),
            "version": 3,
        }
    )
    measurement = folder / "measure.json"
    of_lora = folder / "moments.safetensors"
    if of_lora.exists():
        with safe_open(of_lora, "pt") as file:
            known = file.metadata() == {"made_with": made_with}
        if known:
            log.info("%s is of these rows and this adapter; nothing is measured again", measurement)
            return MeasuredAdapter(model, ranks.load(measurement), Moments(**load_file(of_lora)))
    log.info(
        "%d rows; if the adapter was trained on them, they flatter it",
        min(request.rows, len(rows)),
    )
    headless = sources.task.headless
    chosen = rows.drawn(request.rows, sources.seed)
    passes = Passes.of(chosen, inputs.scoring, world, BATCH[headless])
    adapter = measured(model, passes, GRADIENT_BATCH[headless], world, off)
    remove(of_lora)
    ranks.save(adapter.record, measurement)
    with replacing(of_lora) as place:  # last: it says what both files were made with
        save_file(vars(adapter.moments), place, metadata={"made_with": made_with})
    return adapter


def load_adapter(
    base: BaseOnDisk, source: Path, compute: Compute
) -> tuple[PeftModel, dict[str, Tensor]]:
    """The base model with this adapter, by plain PEFT, on the device; and the base's own values of
    the biases that the adapter trained, as `Lora` takes them.

    Raises UserError if it does not fit."""
    stock = base.stock().model
    biases = {
        name: value.detach().clone()
        for name, value in stock.named_parameters()
        if name.endswith("bias")
    }
    try:
        model = PeftModel.from_pretrained(stock, str(source))
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(f"{source}: PEFT cannot load it on {base.settings.name}: {told}") from error
    _refuse_other_layers(model, source, base.settings.name)
    trained: dict[str, Tensor] = {}
    for name, value in model.named_parameters():
        before = biases.get(name.removeprefix(PREFIX).replace(".base_layer", ""))
        if before is not None and not torch.equal(before, value):
            trained[name] = before.to(compute.device)
    model.to(compute.device)
    return model.eval(), trained


def _refuse_other_layers(model: PeftModel, source: Path, base: str) -> None:
    """Raises UserError if the adapter's file has factors of other layers than the model: PEFT would
    leave them as they were made."""
    layers = layers_of(model, model.active_adapter)
    own = {layer.key(layer.a, model.active_adapter) for layer in layers}
    stored = load_peft_weights(str(source), device="cpu")
    in_file = {key for key in stored if key.endswith((".lora_A.weight", ".lora_embedding_A"))}
    if own != in_file:
        name = min(own ^ in_file).removeprefix(PREFIX)
        raise UserError(f"{source}: is of another base than {base}: only one of the two has {name}")


def _refuse_other_classes(inputs: Inputs, source: Path) -> None:
    """Raises UserError if the adapter's folder names other classes than the rows have: the numbers
    of the labels would mean other classes, without a word."""
    own = list(inputs.task.head().get("id2label", {}).values())
    names = list(read_json(source / "config.json").get("id2label", {}).values())
    if own and names and not str(names[0]).startswith("LABEL_") and names != own:
        raise UserError(
            f"--data: its classes are {', '.join(own)}, those of the adapter {', '.join(names)}"
        )


def _cut(
    request: AdapterRequest,
    adapter: MeasuredAdapter,
    inputs: Inputs,
    base: BaseOnDisk,
    world: World,
) -> Section:
    """Writes the smaller adapter, and evaluates it on the rows of --test in plain PEFT."""
    out = Path(request.out)
    chosen = adapter.ranks(**request.size)
    layers = tuple(ranks.LayerRank(*item) for item in chosen.items())
    record = ranks.RankRecord(max(chosen.values()), layers, rule="cut", note=_note(request))
    # First, so that the folder is known as this command's from its first file on.
    ranks.save(record, out / "ranks.json")
    adapter.save(out, pad=request.padded, **request.size)
    save_tokenizer(inputs.tokenizer, out)
    size = sum(rank * cost for rank, cost in zip(chosen.values(), adapter.sizes, strict=True))
    spread = " to ".join(map(str, sorted({min(chosen.values()), record.k})))
    said = [f"{size:,} of {adapter.record.lora_parameters:,} parameters, rank {spread}, in {out}"]
    _tell("cut to", said[0])
    if request.test is not None:
        model, _ = load_adapter(base, out, world.compute)
        batch = BATCH[inputs.task.config.headless]
        metrics = judge(model, inputs.rows, inputs.scoring, world, batch=batch).metrics
        said.append("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        _tell("on --test", said[1])
    return Section("The cut", None, "\n".join(said), rank_map(record), "cut")


def _tell(what: str, text: Any) -> None:
    console.print(f"{what:>9}  {text}")
