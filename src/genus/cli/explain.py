"""`genus explain`: what a model looks at while it reads a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from genus.evaluate.explain import Explanation, Layer
    from genus.run import Loaded

SHOWN = 5  # words of a line
HEADS = 6  # that look hardest
WRITTEN = 64  # tokens that an encoder-decoder may answer with, where no target is given

TITLES = {"text": 'what "{}" looks at', "source": 'what "{}" of the source looks at', "cross": 'what "{}" looks at in the source'}


@dataclass(frozen=True)
class Options:
    """Show what a model looks at while it reads a sentence, head by head and layer by layer, and what its fast weights write.

    Any model with attention or fast weights will do. The terminal shows a summary; --html writes a page with every head, which
    opens from disk without a network.
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout."""
    sentence: Annotated[Positional[str | None], arg(metavar="[SENTENCE]")] = None
    """What the model reads. Default: The animal didn't cross the street because it was too tired."""
    target: str | None = None
    """What an encoder-decoder writes beside it; default: its own answer."""
    word: str | None = None
    """The word whose looks the terminal shows, or its number among the tokens, from 1; default: the last pronoun."""
    html: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Write the page here."""
    language: Literal["en", "zh"] = "en"
    """Language of the page."""


def main(options: Options) -> int:
    from genus.evaluate.explain import SENTENCE, explain
    from genus.run import load

    loaded = load(options.model)
    if loaded.tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer.json, so it cannot read a sentence; add the tokenizer")
    sentence = SENTENCE if options.sentence is None else options.sentence
    target = options.target
    if target is None:
        target = _answer(loaded, sentence) if getattr(loaded.spec, "encoder", None) is not None else ""
    found = explain(loaded.model, loaded.tokenizer, sentence, target)
    print("\n".join([sentence, *([f"-> {target}"] if target else []), *summary(found, options.word)]))
    if options.html is not None:
        from genus.report.attention_page import page
        from genus.run import write_atomic

        options.html.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(options.html, page(found.to_json(), loaded.path.resolve().name, sentence, target, options.language))
        print(options.html)
    return 0


def _answer(loaded: Loaded, source: str) -> str:
    """What an encoder-decoder writes, always the most probable token."""
    from genus.generate.sampling import Sampling
    from genus.generate.texts import Generator

    return Generator(loaded, max_tokens=WRITTEN, sampling=Sampling(temperature=0.0))([source])[0].text


def summary(found: Explanation, word: str | None = None) -> Iterator[str]:
    """Lines for a terminal.

    Raises:
        ValueError: there is no such word.
    """
    if word is not None and all(_number(word, tokens) is None for tokens in (found.tokens, found.source)):
        told = " ".join(token.strip() or "␣" for token in (*found.source, *found.tokens))
        raise ValueError(f"there is no {word!r}; the tokens are: {told}")
    for place in ("text", "source", "cross"):
        layers = [layer for layer in found.layers if layer.place == place]
        if layers:
            yield from _looks(layers, found.queries(layers[0]), found.keys(layers[0]), word)


def _looks(layers: Sequence[Layer], queries: Sequence[str], keys: Sequence[str], word: str | None) -> Iterator[str]:
    from genus.evaluate.explain import focus

    query = focus(queries) if word is None else _number(word, queries)
    query = focus(queries) if query is None else query
    yield f"\n{TITLES[layers[0].place].format(queries[query].strip())}, mean over the heads of a layer"
    for layer in layers:
        yield f"  {_named(layer):<11} {_most(layer.weights.mean(0)[query].tolist(), keys)}"
    yield from _hardest(layers, query, keys)
    yield from _written(layers, keys)


def _hardest(layers: Sequence[Layer], query: int, keys: Sequence[str]) -> Iterator[str]:
    """The heads with the largest weight on another word."""
    looks = []
    for layer in layers:
        for head, row in enumerate(layer.weights[:, query].tolist()):
            others = [
                i for i, key in enumerate(keys) if key.strip()[:1].isalnum() and (layer.place == "cross" or abs(i - query) > 1)
            ]
            if others:
                best = max(others, key=lambda i: abs(row[i]))
                looks.append((abs(row[best]), f"  {_named(layer)}, head {head + 1}: {keys[best].strip()} {row[best]:.2f}"))
    if looks:
        yield "heads that look hardest at another word"
        yield from (line for _, line in sorted(looks, key=lambda look: -look[0])[:HEADS])


def _written(layers: Sequence[Layer], keys: Sequence[str]) -> Iterator[str]:
    """What changed the memories most."""
    memories = [layer for layer in layers if layer.write is not None]
    if memories:
        yield "words that changed the memory most, mean over the heads of a layer"
    for layer in memories:
        assert layer.write is not None
        strengths = [f"{name} {x.mean():.2f}" for name, x in (("beta", layer.beta), ("kept", layer.decay)) if x is not None]
        told = f"   ({', '.join(strengths)} on the average)" if strengths else ""
        yield f"  {_named(layer):<11} {_most(layer.write.mean(0).tolist(), keys)}{told}"


def _most(values: Sequence[float], keys: Sequence[str]) -> str:
    order = sorted(range(len(values)), key=lambda i: -abs(values[i]))[:SHOWN]
    return "  ".join(f"{keys[i].strip() or '␣'} {values[i]:.2f}" for i in order)


def _named(layer: Layer) -> str:
    return f"layer {layer.number + 1}"


def _number(word: str, tokens: Sequence[str]) -> int | None:
    """Where a word stands, the last time: of several tokens the last; or the token of this number, from 1."""
    if word.isdigit() and 1 <= int(word) <= len(tokens):
        return int(word) - 1
    wanted = word.strip().lower()
    for stop in range(len(tokens), 0, -1):
        for start in range(stop - 1, -1, -1):
            said = "".join(tokens[start:stop]).strip().lower()
            if said == wanted:
                return stop - 1
            if len(said) > len(wanted):
                break
    return None
