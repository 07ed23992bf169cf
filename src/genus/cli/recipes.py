"""`genus recipes`: the family tree, one recipe's specification, the difference of two, and which to compare on given data."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

USAGE = (
    "write: genus recipes, genus recipes show NAME [dim=512 ...], genus recipes diff NAME NAME, "
    "or genus recipes choose [DATA] [LABELS]"
)

WIDEST = 50  # of a column of the difference; longer values run on


@dataclass(frozen=True)
class Options:
    """Print the family tree of recipes, the specification of one, the difference of two, or which to compare on your data.

    genus recipes                       every system: branch, year, what it is, where it was published

    genus recipes show gpt2             its specification, with the number of parameters

    genus recipes show gpt2 dim=512 depth=6 model.stack.blocks.0.dropout=0.1

    genus recipes diff gpt2 llama       what differs, both at the same size

    genus recipes choose                masked or causal, encoder or decoder ...: the rules and their papers

    genus recipes choose data labels.csv    what to compare on this data and these labels, and the numbers that say so
    """

    what: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[show NAME|diff NAME NAME|choose [DATA] [LABELS]] [SIZE=N ...]")
    ] = ()
    """Nothing, or show NAME, or diff NAME NAME, then sizes (dim=512) and, for show, fields (model.stack.depth=8); or choose."""
    language: Literal["en", "zh"] = "en"
    """Language of the one-line summaries, and of choose."""
    json: bool = False
    """Print JSON: of the tree, of the whole specification, of the difference, or of what choose found."""
    task: str | None = None
    """For choose: what the labels ask for (classification, regression, tagging, questions, sequence, conversation)."""
    text: str | None = None
    """For choose: the column of LABELS that is read."""
    pair: str | None = None
    """For choose: the column of a second text."""
    label: str | None = None
    """For choose: the column of the labels."""


def main(options: Options) -> int:
    form, *rest = options.what or ("",)
    names = [word for word in rest if "=" not in word]
    assignments = [word for word in rest if "=" in word]
    if form == "show" and len(names) == 1:
        _show(names[0], assignments, options.json)
    elif form == "diff" and len(names) == 2:
        _diff(names[0], names[1], assignments, options.json)
    elif form == "choose":
        _choose(rest, options)
    elif not form:
        _tree(options)
    else:
        raise ValueError(USAGE)
    return 0


def _tree(options: Options) -> None:
    from genus.recipes import systems, tree

    if options.json:
        _print_json([tree.facts(s) for s in systems()])
        return
    dim, plain = ("\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "")
    for text, remark in tree.tree(options.language):
        print(f"{text}{dim}{remark}{plain}" if remark else text)
    print(f"{len(systems())} recipes. One of them: genus recipes show NAME. Two of them: genus recipes diff NAME NAME.")


def _show(name: str, assignments: list[str], as_json: bool) -> None:
    from genus.recipes import tree
    from genus.spec import apply_overrides, to_json
    from genus.train.options import split_overrides

    sizes, fields = split_overrides(assignments)
    recipe = apply_overrides(tree.sized(name, sizes), fields)
    if as_json:
        _print_json(to_json(recipe))
        return
    print("\n".join(tree.describe(recipe)))
    print("\nWhat is not shown has its default (--json shows all). Change a field with its path, such as model.stack.depth=8.")


def _diff(a: str, b: str, assignments: list[str], as_json: bool) -> None:
    from genus.recipes import tree
    from genus.spec import to_json
    from genus.train.options import split_overrides

    sizes, fields = split_overrides(assignments)
    if fields:
        raise ValueError(f"{fields[0]}: diff takes sizes only, such as dim=512")
    left, right, common = tree.same_sizes(a, b, sizes)
    rows = tree.differences(left, right)
    if as_json:
        names = (left.name, right.name)
        _print_json([{"path": p} | {n: to_json(v) for n, v in zip(names, values) if v is not ...} for p, *values in rows])
        return
    table = [("", left.name, right.name), ("parameters", f"{left.parameters_total:,}", f"{right.parameters_total:,}")]
    table += [(p, tree.value_text(x), tree.value_text(y)) for p, x, y in rows]
    widths = [min(WIDEST, max(len(row[i]) for row in table)) for i in range(3)]
    print("both at " + " ".join(common) + "\n")
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _choose(paths: list[str], options: Options) -> None:
    from genus.plan.guide import advice
    from genus.plan.guide.facts import gather
    from genus.tune.task import Wishes

    if not paths:
        if options.json:
            _print_json(advice.general_json())
        else:
            print("\n".join(advice.general(options.language)))
        return
    facts = gather(paths, Wishes(options.task, options.text, options.pair, options.label))
    if options.json:
        _print_json(advice.to_json(facts))
    else:
        print("\n".join(advice.particular(facts, options.language)))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
