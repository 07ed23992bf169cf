"""Adapters on disk in peft's format: `adapter_config.json` and `adapter_model.safetensors`, under Hugging Face's names.

Where one matrix of theirs holds several of ours (GPT-2's queries, keys and values), see `fused`. A model that no class of
transformers expresses is written under its own names; peft cannot open it then, but `load_peft` can. An adapter that has rows of
new tokens is put on a base whose table has been lengthened (`resize_token_embeddings` in transformers, `train.grow` here).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genus.parts.head import Head
from genus.run import write_atomic
from genus.tune.adapters import fused
from genus.tune.adapters.fused import Factors
from genus.tune.adapters.low_rank import LowRank
from genus.tune.adapters.names import Names, module_of
from genus.tune.adapters.rewrite import Change, adapted, attach, learning_rows
from genus.tune.adapters.token_rows import TokenRows
from genus.tune.unsuitable import Unsuitable

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROOT = "base_model.model."
ROWS = "token_adapter.trainable_tokens_delta"
PART = re.compile(
    r"(?P<module>.*)\.(?P<part>lora_[AB]\.weight|lora_embedding_[AB]|lora_magnitude_vector|base_layer\.weight|"
    rf"{re.escape(ROWS)})"
)
TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
"""End of a class's name -> peft's word for what it does, which makes its wrapper offer `generate` or a loss."""
# fmt: off
SETTLED = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type",
    "trainable_token_indices", "use_dora", "use_rslora",
}
# fmt: on
"""Keys that the tensors answer, that are read, or that matter at the beginning of training only."""
ONLY = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva")}
"""Keys with the values that leave the base's weights and biases alone; PiSSA and its like change the base itself."""


def save_peft(folder: str | Path, model: nn.Module, base: str | Path | None = None, problem: str | None = None) -> None:
    """Write the changes of an adapted model, the rows of new tokens, and whole what else of it learns (a new read-out).

    Args:
        base: where the model without the adapter lies; peft looks there. problem: see `families.match`.

    Raises:
        Unsuitable: nothing is adapted, or peft has no form for it.
    """
    folder, names = Path(folder), Names(model, problem)
    changes = {id(weight): change for weight, change in adapted(model).values()}
    if not changes:
        raise Unsuitable("this model has no adapter to save; tune it with --method lora")
    factors: dict[str, Factors] = {}
    tensors: dict[str, Tensor] = {}
    for rule in names.rules:
        weights = [names.params[n] for n in rule.ours]
        found = [changes.get(id(w)) for w in weights]
        if rule.read_only or not any(c is not None for c in found):
            continue
        module = module_of(rule.theirs)
        factors[module] = fused.join(rule, weights, found, names.heads)
        tensors |= {f"{module}.{key}": t for key, t in _named(factors[module], names.is_table(rule.ours[0])).items()}
    reached = {id(names.params[n]) for rule in names.rules for n in rule.ours}
    lost = next((name for name, (weight, _) in adapted(model).items() if id(weight) not in reached), None)
    if lost is not None:
        raise Unsuitable(f"{names.architecture} has no matrix for {lost}, which is adapted; choose other targets")
    whole = _whole(names, set(changes))
    tensors |= whole
    tokens = _tokens(names)
    tensors |= {f"{module}.{ROWS}": rows.rows for module, rows in tokens.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS}.partial"
    save_file({ROOT + n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    temporary.replace(folder / WEIGHTS)
    dropout = max(change.dropout for change in changes.values())
    config = _config(factors, names, {module_of(n) for n in whole}, dropout, base)
    if tokens:
        known = {module_of(rule.theirs) for rule in names.rules}
        config["trainable_token_indices"] = {_ends({module}, known)[0]: rows.index.tolist() for module, rows in tokens.items()}
    write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_peft(model: nn.Module, folder: str | Path, problem: str | None = None) -> None:
    """Attach an adapter that peft or this library saved to its base model, in place. What it does not hold is frozen.

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: it is of another kind, or of another model; the message names what does not fit.
    """
    folder, names = Path(folder), Names(model, problem)
    config = read_config(folder)
    modules: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        match = PART.fullmatch(re.sub(r"(lora_magnitude_vector)\.weight$", r"\1", name.removeprefix(ROOT)))
        if match is None:
            whole[names.settled(name.removeprefix(ROOT))] = tensor
        elif match["part"] != "base_layer.weight":  # a table that peft writes beside its change
            modules.setdefault(names.settled(match["module"]), {})[match["part"]] = tensor
    by_module = {module_of(rule.theirs): rule for rule in names.rules if names.params[rule.ours[0]].dim() == 2}
    by_name = {rule.theirs: rule for rule in names.rules}
    odd = sorted((modules.keys() - by_module.keys()) | (whole.keys() - by_name.keys()))
    if odd:
        raise ValueError(
            f"{folder} is the adapter of another model: {len(odd)} of its names are not this model's, such as {odd[0]}"
        )
    changes: dict[str, Change] = {}
    for module, parts in modules.items():
        rule, table = by_module[module], names.is_table(by_module[module].ours[0])
        weights = [names.params[n] for n in rule.ours]
        if ROWS in parts:
            changes[rule.ours[0]] = _rows(weights[0], parts, _tokens_of(config, module), f"{folder}: {module}")
            continue
        read = _read(parts, table, config, module)
        for name, weight, part in zip(rule.ours, weights, fused.split(rule, weights, read, names.heads), strict=True):
            if part is not None:
                rate = 0.0 if table else float(config.get("lora_dropout", 0.0))
                changes[name] = LowRank.of(weight, part.A, part.B, part.scale, rate, part.magnitude)
    _attach(model, names, changes, folder)
    for name, tensor in whole.items():
        _fill(names, by_name[name], tensor, folder)


def _tokens(names: Names) -> dict[str, TokenRows]:
    """The rows that learn, by the name of the module that owns the table.

    A table that is also the read-out is named once, as the table: peft hands its rows on to what is tied to it. Of a read-out's
    two names, the second is what transformers 5 calls its module (GPT-NeoX), and there peft looks for it.
    """
    rows = {id(weight): own for weight, own in learning_rows(names.model).values()}
    found: dict[int, tuple[str, TokenRows]] = {}
    tables = {rule.theirs: names.is_table(rule.ours[0]) for rule in names.rules}
    order = sorted(names.rules, key=lambda rule: (not tables[rule.theirs], rule.read_only == tables[rule.theirs]))
    for rule in order:
        key = id(names.params[rule.ours[0]])
        if key in rows:
            found.setdefault(key, (module_of(rule.theirs), rows[key]))
    return dict(found.values())


def new_tokens(config: Mapping[str, Any]) -> list[int]:
    """The tokens whose rows an adapter holds."""
    given = config.get("trainable_token_indices") or []
    return sorted({int(t) for tokens in (given.values() if isinstance(given, dict) else [given]) for t in tokens})


def _tokens_of(config: Mapping[str, Any], module: str) -> list[int]:
    """Which rows of a table of theirs an adapter holds: all its tables have the same, or each its own by the end of its name."""
    given = config.get("trainable_token_indices") or []
    if isinstance(given, dict):
        given = next((tokens for name, tokens in given.items() if module.endswith(name)), [])
    return [int(token) for token in given]


def _rows(weight: Tensor, parts: Mapping[str, Tensor], tokens: list[int], place: str) -> TokenRows:
    """The rows of some tokens as an adapter holds them."""
    rows = parts[ROWS].float()
    if set(parts) != {ROWS} or len(tokens) != len(rows) or rows.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{place} has {', '.join(sorted(parts))}: rows of {len(rows)} tokens, where {CONFIG} names {len(tokens)}"
        )
    if max(tokens) >= len(weight):
        raise ValueError(
            f"{place} has a row for token {max(tokens)}, but the table of this model ends at {len(weight) - 1}; lengthen it: "
            f"genus.train.grow.grown(model, {len(weight)}, {max(tokens) + 1})"
        )
    own = TokenRows(weight, tokens)
    with torch.no_grad():
        own.rows.copy_(rows)
    return own


def _named(f: Factors, table: bool) -> dict[str, Tensor]:
    """The tensors of one module of theirs. A table's change is turned around there: (B A)' = A' B'."""
    if table:
        if f.magnitude is not None:
            raise ValueError("peft's DoRA measures a table by columns; leave tables out of the targets, or use LoRA")
        return {"lora_embedding_A": f.B.mT, "lora_embedding_B": f.A.mT}
    named = {"lora_A.weight": f.A, "lora_B.weight": f.B}
    return named if f.magnitude is None else named | {"lora_magnitude_vector": f.magnitude}


def _read(parts: Mapping[str, Tensor], table: bool, config: Mapping[str, Any], module: str) -> Factors:
    """Inverse of `_named`."""
    keys = ("lora_embedding_B", "lora_embedding_A") if table else ("lora_A.weight", "lora_B.weight")
    if not set(keys) <= set(parts) or (table and "lora_magnitude_vector" in parts):
        raise ValueError(f"the adapter's {module} has {', '.join(sorted(parts))}, where {' and '.join(keys)} belong")
    A, B = (parts[k].float().mT if table else parts[k].float() for k in keys)
    magnitude = parts.get("lora_magnitude_vector")
    return Factors(A, B, _scale(config, module, len(A)), None if magnitude is None else magnitude.float())


def _whole(names: Names, adapted: set[int]) -> dict[str, Tensor]:
    """Their tensors of every module that learns without being adapted; peft asks for a task's read-out in any case."""
    new = () if isinstance(names.spec.head, Head) else ("head.",)
    learns = {id(p) for n, p in names.params.items() if p.requires_grad or n.startswith(new)}
    rules = [r for r in names.rules if not r.read_only]
    modules = {module_of(r.theirs) for r in rules if any(id(names.params[n]) in learns for n in r.ours)}
    modules -= {module_of(r.theirs) for r in rules if any(id(names.params[n]) in adapted for n in r.ours)}
    kept = [r for r in rules if module_of(r.theirs) in modules]
    return {r.theirs: r.join([names.params[n] for n in r.ours], names.heads) for r in kept}


def _config(
    factors: Mapping[str, Factors], names: Names, saved: set[str], dropout: float, base: str | Path | None
) -> dict[str, Any]:
    """adapter_config.json."""
    known = {module_of(rule.theirs) for rule in names.rules}
    rank = _most(len(f.A) for f in factors.values())
    alpha = _most(_alpha(f) for f in factors.values())
    ranks = {module: len(f.A) for module, f in factors.items()}
    alphas = {module: _alpha(f) for module, f in factors.items()}
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": None if base is None else str(base),
        "task_type": next((task for end, task in TASKS.items() if (names.architecture or "").endswith(end)), None),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": _ends(set(factors), known),
        "rank_pattern": _pattern(ranks, rank),
        "alpha_pattern": _pattern(alphas, alpha),
        "modules_to_save": sorted(saved) or None,
        "use_dora": any(f.magnitude is not None for f in factors.values()),
        "bias": "none",
        "inference_mode": True,
    }
    if names.tied & set(factors):
        config["ensure_weight_tying"] = True
    if config["task_type"] is None and names.architecture:
        config["auto_mapping"] = {"base_model_class": names.architecture, "parent_library": "transformers"}
    return config


def _alpha(f: Factors) -> float:
    """alpha whose share of the rank is the scale, as a whole number where it is one."""
    alpha = f.scale * len(f.A)
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha


def _most(values: Iterable[float]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _pattern(values: Mapping[str, float], usual: float) -> dict[str, float]:
    """What differs from the usual, by the shortest ends of names that mean it."""
    result: dict[str, float] = {}
    for value in set(values.values()) - {usual}:
        result |= dict.fromkeys(_ends({m for m, v in values.items() if v == value}, set(values)), value)
    return result


def _ends(wanted: set[str], known: set[str]) -> list[str]:
    """The shortest ends of names, between dots, that `wanted` has and the rest of `known` has not."""
    others = known - wanted
    taken = {".".join(name.split(".")[i:]) for name in others for i in range(name.count(".") + 1)}
    result = set()
    for name in wanted:
        parts = name.split(".")
        ends = [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]
        result.add(next((end for end in ends if end not in taken), name))
    return sorted(result)


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a folder whose adapter can be read here.

    Raises:
        FileNotFoundError: the folder is not an adapter. ValueError: it is of another kind, or asks for something else.
    """
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder} is not an adapter: it has no {file}")
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: adapters of type {config.get('peft_type')!r} are not known here, only 'LORA'")
    for key, value in config.items():
        if value not in ONLY.get(key, (None, False, 0, [], {})) and key not in SETTLED:
            raise ValueError(f"{folder / CONFIG}: {key}={value!r} is not supported")
    return config


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor on B A; a pattern's key is the end of a name, or a regular expression of it, as in peft."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = next((v for k, v in patterns.items() if re.match(rf"(.*\.)?({k})$", module)), config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _attach(model: nn.Module, names: Names, changes: Mapping[str, Change], folder: Path) -> None:
    """Attach changes by our names of the parameters; of a tied matrix all its names must be there, with the same change.

    Rows of a tied table stand under one name.
    """
    if not changes:
        raise ValueError(f"{folder} changes no matrix")
    by_weight: dict[int, dict[str, Change]] = {}
    for name, change in changes.items():
        by_weight.setdefault(id(names.params[name]), {})[name] = change
    first: dict[str, Change] = {}
    for key, alike in by_weight.items():
        every = [n for n, p in names.params.items() if id(p) == key]
        one, *rest = (change(names.params[every[0]]) for change in alike.values())
        whole = len(alike) == len(every) or any(isinstance(change, TokenRows) for change in alike.values())
        if not whole or not all(torch.equal(one, other) for other in rest):
            raise ValueError(f"{folder} changes {' and '.join(alike)} alone; in this model {' and '.join(every)} are one matrix")
        first[module_of(every[0])] = next(iter(alike.values()))
    attach(model, first)


@torch.no_grad()
def _fill(names: Names, rule: Any, tensor: Tensor, folder: Path) -> None:
    """Copy a tensor that the adapter holds whole; it goes on learning."""
    params = [names.params[n] for n in rule.ours]
    parts = list(rule.split(tensor, names.heads))
    if [p.shape for p in parts] != [p.shape for p in params]:
        own = tuple(rule.join(params, names.heads).shape)
        raise ValueError(f"{folder}: {rule.theirs} is {tuple(tensor.shape)}, but this model's is {own}")
    for p, part in zip(params, parts, strict=True):
        p.copy_(part)
        p.requires_grad_(True)
