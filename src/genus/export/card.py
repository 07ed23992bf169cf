"""The model card: README.md of a model folder."""

from __future__ import annotations

from typing import Any

from genus import __version__
from genus.parts.ngram import NGram
from genus.recipes import find, names

PIPELINES = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForPreTraining": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModel": "feature-extraction",
}
"""What the Hub calls the task of each Auto class."""


def model_card(spec: Any, model_type: str, name: str | None, notes: str = "", opener: str | None = None) -> str:
    """Markdown with the YAML header that the Hub reads.

    Args:
        name: recipe, if known: its summary and citation are told. notes: more Markdown.
        opener: the line that opens the folder in transformers.
    """
    system = find(name) if name in names() else None
    pipeline = next((tag for auto, tag in PIPELINES.items() if opener and f"import {auto};" in opener), None)
    if isinstance(spec, NGram):
        pipeline = "text-generation"
    generates = pipeline in ("text-generation", "text2text-generation")
    header = ["---", f"library_name: {'transformers' if opener else 'genus'}"]
    if pipeline:
        header.append(f"pipeline_tag: {pipeline}")
    header += ["tags:", "- genus", f"- {model_type}", "---", ""]
    lines = [*header, f"# {name or model_type}", ""]
    if system:
        lines += [f"{system.summary}.", "", f"{system.title}. {system.citation}.", ""]
    lines += [f"{spec.parameters(0):,} parameters; `model_type` {model_type}; written by genus {__version__}.", ""]
    if notes:
        lines += [notes.strip(), ""]
    lines += ["## Use", ""]
    if generates:
        lines += ["```", 'genus generate FOLDER "..."', "```", ""]
    lines += ["```python", "import genus", 'loaded = genus.load("FOLDER")', "```", ""]
    if opener:
        lines += ["```python", *opener.split("; "), "```", ""]
    return "\n".join(lines)
