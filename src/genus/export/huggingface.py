"""Models in Hugging Face layout: config.json, model.safetensors, tokenizer, generation_config.json, README.md.

A model that a family of transformers can express exactly is written as that family, under its names. Any other is
written as `model_type` "genus", its specification inside config.json, beside a small adapter with which transformers
opens it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from genus import __version__
from genus.export import families, sentences
from genus.export.card import model_card
from genus.export.families import Architecture
from genus.export.families.config import Config
from genus.export.generic import MODEL_TYPE, generic_config
from genus.export.labels import Labels, keys, settle
from genus.export.labels import read as read_labels
from genus.export.mapping import fill, to_theirs
from genus.export.tokens import for_model, read_tokenizer, special_ids
from genus.export.weights import DTYPES, SHARD_BYTES, Weights, write_weights
from genus.modalities.chat import Chat
from genus.parts.ngram import NGram
from genus.parts.ngram_files import MODEL_TYPE as NGRAM
from genus.parts.ngram_files import load_ngram, save_ngram
from genus.recipes import Recipe
from genus.recipes.training import Training
from genus.spec import from_json, to_json

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

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
GENERATION = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
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
    labels: Sequence[str] = (),
    problem: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Write a model folder. Returns its `model_type`.

    config.json is written last, so that a folder which has one is complete.

    Args:
        spec: the Model (or NGram) that `model` was built from, or its whole Recipe.
        context: longest text it was made for; None = the recipe's, or what its learned positions allow.
        dtype: precision of the file: fp32, bf16 or fp16. shard_bytes: largest size of one weights file.
        name: recipe, for the model card. notes: Markdown for the model card.
        labels: names of the outputs of a task's head, in order. problem: what they are for, one of `labels.PROBLEMS`; None =
            single_label_classification, regression (one output) or token_classification. Of two outputs for every position that
            mark an answer's ends, say "question_answering".

    Raises:
        ValueError: `model` was not built from `spec`, the dtype is unknown, or the labels do not fit the model's head.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if isinstance(spec, Recipe):
        name, context = name or spec.name, context or getattr(spec.training, "context", None)
        spec = spec.model
    told = Labels() if isinstance(spec, NGram) else settle(spec, labels, problem)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer = tokenizer if isinstance(spec, NGram) else for_model(tokenizer, spec)
        tokenizer.save(folder)
    if isinstance(spec, NGram):
        _write(folder / "README.md", model_card(spec, NGRAM, name, notes))
        save_ngram(folder, model)  # type: ignore[arg-type]
        return NGRAM
    context = context or spec.context or CONTEXT
    found = families.match(spec, context, told.problem, tokenizer)
    architecture, config = found or (None, generic_config(spec, context, told))
    config |= keys(told) | special_ids(config, tokenizer)
    config["torch_dtype"] = TORCH_NAMES[dtype]
    config["genus"] = {"version": __version__, "recipe": name, "spec": to_json(spec)}
    write_weights(folder, to_theirs(model, spec, architecture, DTYPES[dtype]), shard_bytes)
    if not architecture:
        for file in sorted(ADAPTER.glob("*.py")):
            shutil.copyfile(file, folder / file.name)
    generation = {k: config[k] for k in GENERATION if config.get(k) is not None}
    if tokenizer is not None and tokenizer.chat_template:  # a turn ends before the document does
        ends = sorted(Chat(tokenizer).ends)
        generation["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    _write_json(folder / "generation_config.json", generation)
    sentences.write(folder, spec.head, spec.reads, context)
    _write(folder / "README.md", model_card(spec, config["model_type"], name, notes, opener(config)))
    _write_json(folder / "config.json", config)
    return str(config["model_type"])


def load(folder: str | Path) -> tuple[Any, Any, Tokenizer | None]:
    """The model (float32 master weights, evaluation mode), its spec, and the tokenizer if the folder has one.

    Raises:
        FileNotFoundError: no config.json, no weights, or a shard is missing.
        ValueError: a `model_type`, a setting or a pooling that is not known here, pickled weights, or names or shapes that do not
            agree; the message lists what matched, what is missing and what is unexpected.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type") == NGRAM:
        model = load_ngram(folder)
        return model, model.spec, read_tokenizer(folder, config)
    with Weights(folder) as weights:
        architecture, recipe = _describe(folder, config, weights)
        spec = recipe.model
        with torch.random.fork_rng(devices=[]):  # the weights that `build` draws are overwritten at once
            module = spec.build(0)
        fill(module, spec, architecture, weights)
    return module.eval(), spec, read_tokenizer(folder, config)


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
        return _describe(folder, config, weights)[1]


def copy_companions(source: Path, folder: Path) -> list[str]:
    """Hand on what lies beside another folder's model, byte for byte: tokenizer, templates, sentence-transformers' files."""
    found = [name for name in COMPANIONS if (source / name).is_file()] + sentences.files(source)
    for name in found:
        (folder / name).parent.mkdir(exist_ok=True)
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


def labels_of(folder: str | Path) -> Labels:
    """What the outputs of a folder's model stand for; none of a model without the head of a task.

    Raises:
        FileNotFoundError: the folder holds no model.
    """
    return read_labels(read_config(Path(folder)))


def opener(config: Mapping[str, Any], folder: str = "FOLDER") -> str | None:
    """The Python line with which transformers opens a folder with this config.json; None when it cannot."""
    if config.get("model_type") == MODEL_TYPE:
        auto = next((k for k in config.get("auto_map", {}) if k.startswith("AutoModel")), None)
        remote = ", trust_remote_code=True"
    else:
        name, remote = (config.get("architectures") or [None])[0], ""
        auto = next((a.auto for f in families.FAMILIES for a in f.architectures if a.name == name), None)
    return auto and f'from transformers import {auto}; model = {auto}.from_pretrained("{folder}"{remote})'


def _describe(folder: Path, config: Config, weights: Weights) -> tuple[Architecture | None, Recipe]:
    """Who reads the folder, and its recipe."""
    architecture, recipe = _described(config, weights)
    head = sentences.read(folder, recipe.model.head, recipe.model.context or recipe.training.context)
    return architecture, recipe.replace(model=recipe.model.replace(head=head))


def _described(config: Config, weights: Weights) -> tuple[Architecture | None, Recipe]:
    ours = config.get("genus") or {}
    name = ours.get("recipe") or ""
    if config.get("model_type") == MODEL_TYPE:
        context = config.get("max_position_embeddings", CONTEXT)
        return None, Recipe(name, from_json(config["genus"]["spec"]), training=Training(context=context))
    config = families.of_type(config.get("model_type"))[0].settle(config, weights)
    architecture = families.find(config, weights.names)
    recipe = architecture.read(config)
    recipe = recipe.replace(name=name or recipe.name)
    # Our own files carry the exact spec, with what transformers has no word for; the rest may have been edited since.
    if ours:
        spec = from_json(ours["spec"])
        if families.canonical(spec) == families.canonical(recipe.model):
            recipe = recipe.replace(model=spec)
    return architecture, recipe


def _write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
