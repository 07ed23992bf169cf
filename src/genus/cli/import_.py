"""`genus import`: a Hugging Face folder, or a model on its Hub, as a run."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
WANTED = ("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model")


@dataclass(frozen=True)
class Options:
    """Make a run out of a Hugging Face model, so that train, evaluate, generate and export work on it.

    Every name and shape must agree on both sides. Weights are read from safetensors only; nothing is unpickled.
    """

    source: Annotated[Positional[str], arg(metavar="FOLDER|ORG/NAME")]
    """A folder, or ORG/NAME on the Hugging Face Hub."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The run directory to make."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""


def main(options: Options) -> int:
    folder = fetch(options.source, options.revision)
    from genus import __version__
    from genus.export import huggingface
    from genus.export.verify import verify
    from genus.run import Run, replace_folder
    from genus.spec import to_json

    if (options.output / "run.json").exists():
        raise ValueError(f"{options.output} already holds a run; choose another -o")
    recipe = huggingface.describe(folder)
    model, spec, tokenizer = huggingface.load(folder)
    told = huggingface.labels_of(folder)
    kind = huggingface.read_config(folder)["model_type"]
    dtype = "fp32" if kind == huggingface.NGRAM else huggingface.stored_dtype(folder)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_name(f".{options.output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        huggingface.save(temporary, model, recipe, tokenizer, dtype=dtype, labels=told.names, problem=told.problem)
        huggingface.copy_companions(folder, temporary)
        check = verify(temporary, model, spec, tokenizer, dtype)
        run = Run.create(options.output, _config(options, recipe, kind, to_json(recipe), __version__))
        replace_folder(temporary, run.model_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{run.path}: {kind}, {spec.parameters(0):,} parameters, {dtype}, {check.tensors} tensors")
    print(f"tokenizer: {tokenizer}" if tokenizer else "no tokenizer.json: the run takes token ids only")
    if told.problem:
        print(f"for {told.problem.replace('_', ' ')}{': ' if told.names else ''}{', '.join(told.names)}")
    opens = huggingface.opener(huggingface.read_config(run.model_dir)) or ""
    writes = kind == huggingface.NGRAM or "ForCausalLM" in opens or "ForSeq2SeqLM" in opens
    print(f"next: genus generate {run.path} '...'" if writes else f"next: genus tune {run.path} LABELS -o RUN")
    return 0


def fetch(source: str, revision: str | None = None) -> Path:
    """The local folder of a model, downloaded from the Hub if `source` is ORG/NAME and no such folder exists.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: the Hub cannot be reached, or has no such model.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(source):
        raise FileNotFoundError(f"{source} is neither a folder nor a name on the Hub (ORG/NAME)")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(source, revision=revision, allow_patterns=list(WANTED)))
    except Exception as error:  # the hub's own, httpx's or requests', according to its version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"there is no folder {source}, and it could not be downloaded from the Hugging Face Hub ({reason}); "
            "download it where there is a network, and give the folder"
        ) from error


def _config(options: Options, recipe: Any, kind: str, spec: Any, version: str) -> dict[str, Any]:
    import torch

    return {
        "genus": version,
        "source": options.source,
        "revision": options.revision,
        "base": None,
        "imported": kind,
        "recipe": spec,
        "parameters": recipe.parameters_total,
        "finished": {"steps": 0, "tokens": 0, "seconds": 0.0, "validation": None},
        "versions": {"genus": version, "torch": torch.__version__},
    }
