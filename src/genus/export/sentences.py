"""The layout of sentence-transformers around a bare encoder: how one vector is made of a text's.

    modules.json                the encoder, a pooling, perhaps a normalisation
    1_Pooling/config.json       which pooling
    sentence_bert_config.json   how much of a text is read

The encoder lies beside them in Hugging Face layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genus.parts.task_head import Take, Vectors

MODULES, POOLING = "modules.json", "1_Pooling"
PROMPTS = "config_sentence_transformers.json"
READING = "sentence_bert_config.json"
KINDS = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
NAMES: Mapping[str, Take] = {"cls": "first", "mean": "mean", "max": "max", "lasttoken": "last"}
FLAGS = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken"}
"""Poolings that are built here, as one key names them, and as flags do (`pooling_mode_cls_token`)."""


def read(folder: Path, head: Any, context: int) -> Any:
    """The head of a bare encoder with what `modules.json` states; the head as it is where there is none.

    Args:
        context: positions of the encoder.

    Raises:
        ValueError: the folder asks for a pooling, a module or a prompt that is not built here, or for texts without tokens.
    """
    if not isinstance(head, Vectors) or not (folder / MODULES).is_file():
        return head
    modules = _json(folder / MODULES)
    kinds = [str(m.get("type")).rpartition(".")[2] for m in modules]
    if kinds not in KINDS:
        raise _refused(folder / MODULES, f"its modules are {', '.join(kinds)}; only Transformer, Pooling and Normalize are built")
    if _json(folder / PROMPTS, {}).get("default_prompt_name"):
        raise _refused(folder / PROMPTS, "a prompt before every text (default_prompt_name) is not built")
    if len(kinds) == 1:
        return head
    config = folder / modules[1]["path"] / "config.json"
    return head.replace(take=_take(config), unit=len(kinds) == 3, longest=_longest(folder / READING, context))


def write(folder: Path, head: Any, dim: int, context: int) -> None:
    """Write what `read` reads; nothing for a model that makes no vectors of texts."""
    if not isinstance(head, Vectors) or head.take is None:
        return
    paths = {"Transformer": "", "Pooling": POOLING} | ({"Normalize": "2_Normalize"} if head.unit else {})
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(paths.items())
    ]
    flags = {f"pooling_mode_{flag}": NAMES[name] == head.take for name, flag in FLAGS.items()}
    _write(folder / MODULES, modules)
    _write(folder / POOLING / "config.json", {"word_embedding_dimension": dim, **flags})
    _write(folder / READING, {"max_seq_length": head.longest or context, "do_lower_case": False})


def lower_case(folder: Path) -> bool:
    """Whether texts are to be put in lower case before the tokenizer, whatever that does itself, reads them."""
    return (folder / MODULES).is_file() and bool(_json(folder / READING, {}).get("do_lower_case"))


def files(folder: Path) -> list[str]:
    """The files of the layout in a folder, by their paths inside it."""
    if not (folder / MODULES).is_file():
        return []
    parts = [Path(m["path"]) / "config.json" for m in _json(folder / MODULES) if m.get("path")]
    named = [MODULES, PROMPTS, *(p.name for p in sorted(folder.glob("sentence_*_config.json")))]
    return [name for name in (*named, *(part.as_posix() for part in parts)) if (folder / name).is_file()]


def _longest(path: Path, context: int) -> int | None:
    most = _json(path, {}).get("max_seq_length")
    if most is not None and (type(most) is not int or most < 1):
        raise _refused(path, f"max_seq_length is {most!r}, and no number of tokens")
    return None if most is None or most >= context else most


def _take(path: Path) -> Take:
    config = _json(path)
    named = config.get("pooling_mode")
    asked = [named] if isinstance(named, str) else list(named or ())
    short = {flag: name for name, flag in FLAGS.items()}
    flags = [k.removeprefix("pooling_mode_") for k, on in config.items() if k.startswith("pooling_mode_") and on]
    asked = asked or [short.get(flag, flag) for flag in flags]
    if len(asked) == 1 and asked[0] in NAMES:
        return NAMES[asked[0]]
    raise _refused(path, f"a pooling by {' and '.join(asked) or 'nothing'} is not built, only one of {', '.join(NAMES)}")


def _refused(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path}: {why}. To read the encoder without it, as a model whose vectors nobody sums up, take a copy of the folder "
        f"without {MODULES}"
    )


def _json(path: Path, default: Any = None) -> Any:
    """What a file holds; `default`, where there is one, of a file that is not there.

    Raises:
        ValueError: it is not there, or it is not JSON.
    """
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); copy the folder again, with its subfolders") from error


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
