"""`genus export`: a run as a folder that other programs open."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from genus.run import Loaded


@dataclass(frozen=True)
class Options:
    """Write a model for other programs: a folder in Hugging Face layout, an adapter alone, or an n-gram as an ARPA file.

    What was written is read back and compared with the model before it is put in its place.
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder (hf, peft) or file (arpa) to write; it must not exist yet."""
    to: Literal["hf", "peft", "arpa"] = "hf"
    """hf = Hugging Face layout; peft = only what LoRA or DoRA added to the base; arpa = text format of n-gram models, which
    KenLM and SRILM read."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the weights in the file."""


def main(options: Options) -> int:
    from genus.run import load

    if options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise ValueError(f"{options.output} exists already; choose another -o, or remove it")
    loaded = load(options.model)
    return {"hf": _hugging_face, "peft": _peft, "arpa": _arpa}[options.to](options, loaded)


def _hugging_face(options: Options, loaded: Loaded) -> int:
    from genus.export import huggingface
    from genus.export.verify import verify
    from genus.run import model_folder, replace_folder

    source, _ = model_folder(options.model)
    recipe = huggingface.describe(source)
    name, notes = (recipe.name or None), ""
    if loaded.config:
        name, notes = loaded.config.get("recipe", {}).get("name") or name, training_notes(loaded.config)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_name(f".{options.output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        kind = huggingface.save(
            temporary,
            loaded.model,
            loaded.spec,
            loaded.tokenizer,
            getattr(recipe.training, "context", None),
            dtype=options.dtype,
            name=name,
            notes=notes,
            labels=loaded.labels.names if loaded.labels else (),
            problem=loaded.labels.problem if loaded.labels else None,
        )
        huggingface.copy_companions(source, temporary)
        check = verify(temporary, loaded.model, loaded.spec, loaded.tokenizer, options.dtype)
        replace_folder(temporary, options.output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(f.stat().st_size for f in options.output.iterdir() if f.is_file())
    print(f"{options.output}: {kind}, {loaded.spec.parameters(0):,} parameters, {options.dtype}, {size / 1e6:.1f} MB")
    print(f"checked: {check.tensors} tensors read back equal; {_logits(options, check)}")
    print(_how_to_open(options.output))
    return 0


def _peft(options: Options, loaded: Loaded) -> int:
    from genus.export import huggingface
    from genus.run import replace_folder
    from genus.tune.adapters.verify import verify
    from genus.tune.methods import ADAPTER
    from genus.tune.tasks import TASKS

    source = options.model / ADAPTER
    if not source.is_dir():
        raise ValueError(f"{options.model} has no adapter of its own; tune with --method lora, or export the whole with --to hf")
    part = loaded.config.get("task", {}).get("part")
    problem = next((task.problem_name for task in TASKS if task.__name__ == part), None)
    check = verify(source, loaded.model, problem)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_name(f".{options.output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    if check.tokens:
        huggingface.copy_companions(options.model / "model", temporary)
    replace_folder(temporary, options.output)
    size = sum(f.stat().st_size for f in options.output.iterdir())
    print(f"{options.output}: changes of {check.matrices} matrices of {check.base}, of rank {check.rank}, {size / 1e6:.1f} MB")
    if check.tokens:
        print(f"and the rows of {check.tokens} tokens that {check.base} does not know; the tokenizer that does lies beside them")
    print(f"checked: on their base they are {options.model}: weights at most {check.difference:.1g} of the largest apart")
    line = huggingface.opener(huggingface.read_config(options.model / "model"), check.base)
    if line and "trust_remote_code" not in line:
        outputs = getattr(loaded.spec.head, "outputs", None)  # type: ignore[attr-defined]
        line = line if outputs is None else f"{line[:-1]}, num_labels={outputs})"
        print(f"open it in Python with:\n  {line}")
        if check.longer is not None:
            print(f"  model.resize_token_embeddings({check.longer})")
        print(f'  from peft import PeftModel; model = PeftModel.from_pretrained(model, "{options.output}")')
    else:
        print("peft has no such model; open it with: from genus.tune.adapters.peft import load_peft")
    return 0


def _logits(options: Options, check: Any) -> str:
    if options.dtype == "fp32":
        return f"same logits on {check.tokens} tokens"
    return (
        f"rounding to {options.dtype} moves the logits of {check.tokens} tokens by at most {check.difference:.2g}; "
        f"the most probable token stays the same at {check.agree:.0%} of them"
    )


def _how_to_open(folder: Path) -> str:
    from genus.export import huggingface

    line = huggingface.opener(huggingface.read_config(folder), str(folder))
    if line is None:
        return f'transformers has no such model; open it with: import genus; loaded = genus.load("{folder}")'
    return f"open it in Python with:\n  {line}"


def training_notes(config: dict[str, Any]) -> str:
    """Markdown for the model card: what the run was trained on, and how well it did."""
    data, finished = config.get("data") or {}, config.get("finished") or {}
    validation = finished.get("validation") or {}
    rows = [
        ("data fingerprint", data.get("fingerprint")),
        ("tokens seen", f"{finished['tokens']:,}" if finished.get("tokens") else None),
        ("steps", f"{finished['steps']:,}" if finished.get("steps") else None),
        ("seed", config.get("seed")),
        ("validation, bits per byte", f"{validation['bpb']:.4f}" if validation.get("bpb") else None),
    ]
    rows = [(name, value) for name, value in rows if value is not None]
    if not rows:
        return ""
    return "\n".join(["## Training", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _arpa(options: Options, loaded: Loaded) -> int:
    from genus.parts.ngram import NGram

    if not isinstance(loaded.spec, NGram):
        raise ValueError(f"{options.model} is not an n-gram; only n-grams can be written as ARPA, use --to hf")
    from genus.export.arpa import token_names, write_arpa

    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_arpa(options.output, loaded.model, token_names(loaded.tokenizer) if loaded.tokenizer else None)
    print(f"{options.output}: {loaded.spec.order}-gram, {options.output.stat().st_size / 1e6:.1f} MB")
    return 0
