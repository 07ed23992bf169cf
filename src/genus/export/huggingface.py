"""Models in Hugging Face layout: config.json, model.safetensors, tokenizer, generation_config.json, README.md.

A model that a family of transformers can express exactly is written as that family, under its names. Any other is
written as `model_type` "genus", its specification inside config.json, beside a small adapter with which transformers
opens it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genus import __version__
from genus.export import families
from genus.export.card import model_card
from genus.export.families.family import Config, Family
from genus.export.rules import Bound, bind, heads_of
from genus.export.weights import DTYPES, READABLE, SHARD_BYTES, Weights, write_weights
from genus.parts.attention import Attention
from genus.parts.model import Model
from genus.parts.ngram import MODEL_TYPE as NGRAM
from genus.parts.ngram import NGram, load_ngram, save_ngram
from genus.recipes import Recipe
from genus.recipes.training import Training
from genus.spec import from_json, to_json, walk

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

MODEL_TYPE = "genus"
PREFIX = "model."  # of our tensors in a generic folder: the attribute of the adapter that holds the model
CONTEXT = 2048  # written where nobody says how long a text the model was made for
ADAPTER = Path(__file__).with_name("adapter")
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""Files beside a model that are handed on as they are."""
TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def save(
    folder: str | Path,
    model: nn.Module,
    spec: Any,
    tokenizer: Tokenizer | None = None,
    context: int | None = None,
    *,
    dtype: str = "fp32",
    name: str | None = None,
    notes: str = "",
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Write a model folder. Returns its `model_type`.

    config.json is written last, so that a folder which has one is complete.

    Args:
        spec: the Model (or NGram) that `model` was built from, or its whole Recipe.
        context: longest text it was made for; None = the recipe's, or what its learned positions allow.
        dtype: precision of the file: fp32, bf16 or fp16. shard_bytes: largest size of one weights file.
        name: recipe, for the model card. notes: Markdown for the model card.

    Raises:
        ValueError: `model` was not built from `spec`, or the dtype is unknown.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if isinstance(spec, Recipe):
        name, context = name or spec.name, context or getattr(spec.training, "context", None)
        spec = spec.model
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)
    if isinstance(spec, NGram):
        _write(folder / "README.md", model_card(spec, NGRAM, name, notes))
        save_ngram(folder, model)  # type: ignore[arg-type]
        return NGRAM
    context = context or spec.context or CONTEXT
    found = families.match(spec, context)
    family, config = found if found else (None, _generic_config(spec, context))
    config = {"architectures": [family.architecture]} | config if family else config
    config["torch_dtype"] = TORCH_NAMES[dtype]
    for key in ("bos", "eos"):
        config[f"{key}_token_id"] = getattr(tokenizer, f"{key}_id", None)
    config["genus"] = {"version": __version__, "recipe": name, "spec": to_json(spec)}
    write_weights(folder, _to_theirs(model, spec, family, DTYPES[dtype]), shard_bytes)
    if not family:
        for file in sorted(ADAPTER.glob("*.py")):
            shutil.copyfile(file, folder / file.name)
    generation = {k: config[k] for k in ("bos_token_id", "eos_token_id") if config[k] is not None}
    if "decoder_start_token_id" in config:
        generation["decoder_start_token_id"] = config["decoder_start_token_id"]
    _write_json(folder / "generation_config.json", generation)
    _write(folder / "README.md", model_card(spec, config["model_type"], name, notes, opener(config)))
    _write_json(folder / "config.json", config)
    return str(config["model_type"])


def load(folder: str | Path) -> tuple[Any, Any, Tokenizer | None]:
    """The model (float32 master weights, evaluation mode), its spec, and the tokenizer if the folder has one.

    Raises:
        FileNotFoundError: no config.json, no weights, or a shard is missing.
        ValueError: a `model_type` or a setting that is not known here, pickled weights, or names or shapes that do not
            agree; the message lists what matched, what is missing and what is unexpected.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type") == NGRAM:
        model = load_ngram(folder)
        return model, model.spec, _tokenizer(folder)
    with Weights(folder) as weights:
        family, recipe = _describe(config, weights)
        spec = recipe.model
        with torch.random.fork_rng(devices=[]):  # the weights that `build` draws are overwritten at once
            module = spec.build(0)
        _fill(module, spec, family, weights)  # type: ignore[arg-type]
    return module.eval(), spec, _tokenizer(folder)


def describe(folder: str | Path) -> Recipe:
    """The recipe of a model folder: the specification, and the context it was made for as its training context.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type") == NGRAM:
        return Recipe("ngram", from_json(config["spec"]))
    with Weights(folder) as weights:
        return _describe(config, weights)[1]


def copy_companions(source: Path, folder: Path) -> list[str]:
    """Hand on the tokenizer, the chat template and the generation settings of another folder, byte for byte."""
    found = [name for name in COMPANIONS if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, folder / name)
    return found


def stored_dtype(folder: str | Path) -> str:
    """Precision of a folder's weights: a name in `weights.DTYPES`; fp32 when tensors differ."""
    with Weights(Path(folder)) as weights:
        return weights.dtype


def read_config(folder: Path) -> Config:
    """config.json of a model folder.

    Raises:
        FileNotFoundError: there is none. ValueError: it is not JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json")
    try:
        return Config(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def opener(config: Mapping[str, Any], folder: str = "FOLDER") -> str | None:
    """The Python line with which transformers opens a folder with this config.json; None when it cannot."""
    if config.get("model_type") == MODEL_TYPE:
        auto = next((k for k in config.get("auto_map", {}) if k.startswith("AutoModel")), None)
        remote = ", trust_remote_code=True"
    else:
        architecture = (config.get("architectures") or [None])[0]
        auto, remote = next((f.auto for f in families.FAMILIES if f.architecture == architecture), None), ""
    return auto and f'from transformers import {auto}; model = {auto}.from_pretrained("{folder}"{remote})'


def _generic_config(spec: Model, context: int) -> dict[str, Any]:
    config = {
        "model_type": MODEL_TYPE,
        "vocab_size": spec.embed.vocab,
        "hidden_size": spec.dim,
        "num_hidden_layers": spec.stack.depth,
        "max_position_embeddings": context,
        "tie_word_embeddings": spec.head.tied,
        "use_cache": False,
    }
    causal = all(p.causal or p.cross for p in walk(spec) if isinstance(p, Attention))
    if spec.encoder is None and causal:
        config["architectures"] = ["GenusForCausalLM"]
        config["auto_map"] = {
            "AutoConfig": "configuration_genus.GenusConfig",
            "AutoModelForCausalLM": "modeling_genus.GenusForCausalLM",
        }
    return config


def _describe(config: Config, weights: Weights) -> tuple[Family | None, Recipe]:
    """Who reads the folder, and its recipe."""
    ours = config.get("genus") or {}
    name = ours.get("recipe") or ""
    if config.get("model_type") == MODEL_TYPE:
        context = config.get("max_position_embeddings", CONTEXT)
        return None, Recipe(name, from_json(config["genus"]["spec"]), training=Training(context=context))
    family = families.find(config)
    recipe = family.read(family.settle(config, weights))
    recipe = recipe.replace(name=name or recipe.name)
    # Our own files carry the exact spec, with what transformers has no word for; the rest may have been edited since.
    if ours:
        spec = from_json(ours["spec"])
        if families.canonical(spec) == families.canonical(recipe.model):
            recipe = recipe.replace(model=spec)
    return family, recipe


def _bound(names: list[str], family: Family | None) -> list[Bound]:
    if family is None:
        return [Bound(PREFIX + n, (n,), "same", False) for n in names]
    return bind(family.rules, names)


def _to_theirs(model: nn.Module, spec: Model, family: Family | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """The checkpoint's tensors. A tied tensor is written once, under the name of the table."""
    if getattr(model, "spec", spec) != spec:
        raise ValueError("the model was built from another spec than the one given; save it with its own (model.spec)")
    params: dict[str, Tensor] = {}
    seen: set[int] = set()
    for n, p in model.state_dict(keep_vars=True).items():
        if id(p) not in seen:
            params[n] = p.detach().to(dtype)
            seen.add(id(p))
    theirs: dict[str, Tensor] = {}
    written: set[str] = set()
    for b in _bound(list(params), family):
        if not b.read_only:
            theirs[b.theirs] = b.join([params[n] for n in b.ours], heads_of(spec)).cpu()
            written.update(b.ours)
    if written != set(params):
        raise AssertionError(f"no rule writes {sorted(set(params) - written)}")
    return theirs


def _fill(model: nn.Module, spec: Model, family: Family | None, weights: Weights) -> None:
    """Copy the checkpoint into the model, every name accounted for on both sides."""
    params: dict[str, Tensor] = model.state_dict(keep_vars=True)
    names = _their_names(weights, family)
    filled: dict[int, str] = {}  # parameter -> the tensor that filled it; tied names share a parameter
    wrong, used = [], set()
    for b in _bound(list(params), family):
        if b.theirs not in names:
            continue
        used.add(b.theirs)
        tensor = weights.tensor(names[b.theirs])
        try:
            parts = list(b.split(tensor, heads_of(spec)))
        except RuntimeError:  # a shape that does not even divide
            parts = []
        expected = [tuple(params[n].shape) for n in b.ours]
        if tensor.dtype not in READABLE or [tuple(p.shape) for p in parts] != expected:
            wrong.append(f"{b.theirs} {tuple(tensor.shape)} {tensor.dtype}, for {', '.join(b.ours)} {expected[0]}")
            continue
        for name, part in zip(b.ours, parts, strict=True):
            _copy(params[name], part, b.theirs, filled)
    first = {id(p): n for n, p in reversed(params.items())}  # a tied parameter is missed once
    missing = sorted(n for key, n in first.items() if key not in filled)
    unexpected = sorted(
        n for n in names if n not in used and not any(re.fullmatch(i, n) for i in (family.ignore if family else ()))
    )
    # a tensor of the wrong shape is reported as that, not as missing too
    if wrong or missing or unexpected:
        raise ValueError(_mismatch(weights, family, len(used), missing, unexpected, wrong, params))


@torch.no_grad()
def _copy(parameter: Tensor, tensor: Tensor, name: str, filled: dict[int, str]) -> None:
    before = filled.setdefault(id(parameter), name)
    if before == name:
        parameter.copy_(tensor)
    elif not torch.equal(parameter, tensor.to(parameter.dtype)):
        raise ValueError(
            f"{name} and {before} should be the same numbers (the config ties them), but they differ; "
            "if the read-out is its own, set tie_word_embeddings to false in config.json"
        )


def _their_names(weights: Weights, family: Family | None) -> dict[str, str]:
    """Name as our rules spell it -> name in the file: older spellings, and checkpoints of the bare model (no prefix)."""
    if family is None:
        return {n: n for n in weights.names}
    names = {}
    for n in weights.names:
        new = n
        for pattern, replacement in family.renames:
            new = re.sub(pattern, replacement, new)
        names[new] = n
    if family.prefix and not any(n.startswith(family.prefix) for n in names):
        heads = {r.theirs for r in family.rules if not r.theirs.startswith(family.prefix)}
        names = {n if n in heads else family.prefix + n: old for n, old in names.items()}
    return names


def _mismatch(
    weights: Weights,
    family: Family | None,
    matched: int,
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    params: Mapping[str, Tensor],
) -> str:
    theirs = {o: b.theirs for b in reversed(_bound(list(params), family)) for o in b.ours}
    lines = [f"{weights.folder}: the weights do not fit config.json; {matched} names matched"]
    wrong_names = {w.split()[0] for w in wrong}
    gone = sorted({theirs.get(n, n) for n in missing} - wrong_names)
    for title, items in (("missing", gone), ("unexpected", unexpected), ("wrong shape or type", wrong)):
        if items:
            more = f", and {len(items) - 12} more" if len(items) > 12 else ""
            lines.append(f"{title} ({len(items)}): {'; '.join(items[:12])}{more}")
    heads = {n for n in gone if family and family.prefix and not n.startswith(family.prefix)}
    if heads and heads == set(gone):
        lines.append(
            f"everything but the head is there: this is a bare {family.model_type if family else ''} without its "
            f"language-model head, which {family.architecture if family else ''} has"
        )
    return "\n  ".join(lines)


def _tokenizer(folder: Path) -> Tokenizer | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    from genus.modalities.text import Tokenizer

    return Tokenizer.load(folder)


def _write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
