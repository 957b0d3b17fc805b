"""The part of a language model's card that says which file or folder each server takes."""

from pathlib import Path

from autolora.configs.values import accepted
from autolora.engine.disk.files import read_json
from autolora.engine.export.gguf import ARCHITECTURES
from autolora.engine.export.names import ADAPTER_CONFIG
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder

_SERVERS = """
## Servers

Two programs were tested: PEFT with the lines above, and llama.cpp with a file that `--export.gguf true` wrote. What
the others take was read from their code, and was not tested. The folders lie beside this one.

| program | takes |
|---|---|
| PEFT, transformers | this folder |
| vLLM | {vllm} |
| SGLang (refuses unequal ranks) | {padded} |
| TGI | {padded} |
| llama.cpp (`--lora`, on a GGUF file of the base) | {gguf} |
| any other | {merged} |

An answer ends with {ends}. The folders' generation_config.json says so; a server that reads this file from the base's
folder alone needs {ids} as stop_token_ids in each request.
"""
_WHOLE = """
This adapter also holds modules that were trained whole ({names}): vLLM refuses them, TGI leaves them out, and a LoRA
file of llama.cpp has no place for them. Use the merged model with these programs.
"""
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for --max-lora-rank (vllm/config/lora.py)."""
_VLLM_DEFAULT = 16
"""The largest rank that vLLM takes without that option."""
_WITHOUT_LORA_IN_VLLM = {"gpt2"}
"""Base models for which vLLM has no LoRA: its class for GPT-2 does not derive from SupportsLoRA. Others lack it, too,
but were not looked up."""


def servers(run: Context) -> str:
    """The card's part about servers: the file or folder that each takes, and the key that writes one that is missing,
    if the run takes that key."""
    folder = run.folder
    settings = read_json(folder.adapter / ADAPTER_CONFIG)

    def there(path: Path, key: str, otherwise: str) -> str:
        if path.exists():
            return f"`{path.name}{'/' if path.is_dir() else ''}`"
        return f"not written (`--{key} true`)" if _can_be_written(run, key) else otherwise

    merged = there(folder.merged, "export.merged", "the unquantised base, merged with this adapter by PEFT")
    whole = settings.get("modules_to_save")
    padded = there(folder.padded, "export.padded", "the merged model")
    rank = max(settings["rank_pattern"].values(), default=settings["r"])
    text = _SERVERS.format(
        vllm=merged if _model_type(folder) in _WITHOUT_LORA_IN_VLLM else _for_vllm(padded, merged, rank),
        padded=padded,
        gguf=there(folder.gguf, "export.gguf", "the merged model, converted"),
        merged=merged,
        ends=" or ".join(f"token {token} (`{run.tokenizer.convert_ids_to_tokens(token)}`)" for token in run.ends),
        ids=run.ends,
    )
    return text + (_WHOLE.format(names=", ".join(whole)) if whole else "")


def _for_vllm(padded: str, merged: str, rank: int) -> str:
    """What vLLM takes: the padded adapter, with the option that it needs for this rank, or the merged model."""
    if rank <= _VLLM_DEFAULT:
        return padded
    most = next((allowed for allowed in _VLLM_RANKS if allowed >= rank), None)
    return merged if most is None else f"{padded} with `--max-lora-rank {most}`"


def _can_be_written(run: Context, key: str) -> bool:
    """Whether a run with this key would write the export; not if this run had the key and wrote none."""
    if key == "export.gguf" and _model_type(run.folder) not in ARCHITECTURES:
        return False
    return not getattr(run.config.export, key.partition(".")[2]) and accepted(run.config, {key: True})


def _model_type(folder: RunFolder) -> str:
    """transformers' name for the architecture of the base model."""
    return str(read_json(folder.adapter / "config.json").get("model_type", "llama"))
