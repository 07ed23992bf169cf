"""Few-shot slope: does the model get better at the user's labels when examples stand before the question?

Brown et al., "Language Models are Few-Shot Learners" (2020), figure 1.2. Beside the accuracy stands the margin: the
log-probability of the right label less that of the best wrong one, which moves before the accuracy does (Schaeffer et al. 2023).
"""

from __future__ import annotations

import numpy as np

from genus.evaluate.probes.labels import Example
from genus.evaluate.probes.reading import Subject, intervals, read, standard_error
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.ops.cross_entropy import IGNORE

QUESTIONS = 100  # at most
ENOUGH = 0.5  # share of the examples that must fit into the context at a number of shots


def shots(subject: Subject) -> ProbeResult:
    """Accuracy and margin at 0, 1, 2, 4, 8 examples, over the same questions each time.

    A prompt is `text`, a line break, `label`, a line break, and so on. The examples are drawn at random for each question, and
    those at k shots are the last k of those at more. Labels are scored with the line break after them.

    Raises:
        ValueError: no labels, no room for even one example, or a tokenizer that writes two labels alike.
    """
    if not subject.labels:
        raise ValueError("the probe 'shots' needs examples: give --labels FILE with the columns text and label")
    names = sorted({e.label for e in subject.labels})
    endings = {name: subject.tokenizer.encode(name + "\n") for name in names}
    _distinct(endings)
    pieces = [(subject.tokenizer.encode(e.text + "\n"), e.label) for e in _sample(subject)]
    pieces = [p for p in pieces if p[0]]
    longest = max(map(len, endings.values()))
    counts, room = _fitting(subject, [len(text) for text, _ in pieces], longest)
    usable = [p for p in pieces if len(p[0]) <= room]
    rng = np.random.default_rng(subject.seed)
    questions = rng.permutation(len(usable))[:QUESTIONS]
    drawn = [rng.permutation([i for i in range(len(usable)) if i != q])[: max(counts)] for q in questions]
    truth = [usable[q][1] for q in questions]
    places = np.arange(len(truth)), np.array([names.index(name) for name in truth])
    right, margin, loss = (np.empty((len(counts), len(questions))) for _ in range(3))
    for row, count in enumerate(counts):
        found = _answers(subject, usable, questions, [d[len(d) - count :] for d in drawn], endings)
        own = found[places]
        others = found.copy()
        others[places] = -np.inf
        right[row], margin[row] = own > others.max(1), own - others.max(1)
        loss[row] = np.logaddexp.reduce(found, axis=1) - own
    slope = _slope(counts, margin)
    curve = Curve.judge(
        "shots",
        counts,
        "accuracy",
        right.mean(1).tolist(),
        "-margin (nats)",
        (-margin.mean(1)).tolist(),
        error=max(map(standard_error, margin - margin.mean(0))),  # the questions are the same at every number of shots
        shift=1.0,
    )
    return ProbeResult(
        "shots",
        "read",
        subject.name,
        float(right[-1].mean()),
        f"accuracy, {counts[-1]} shots",
        float(loss[-1].mean()),
        "loss among the labels (nats)",
        {
            "margin per doubling of 1 + shots (nats)": float(slope.mean()),
            "accuracy, 0 shots": float(right[0].mean()),
            "accuracy of the commonest label": max(truth.count(name) for name in names) / len(truth),
        },
        (curve,),
        f"{len(questions)} questions, {len(names)} labels, examples drawn at random for each question",
        intervals(score=right[-1], loss=loss[-1], **{"margin per doubling of 1 + shots (nats)": slope}),
    )


def _sample(subject: Subject) -> list[Example]:
    """As many examples as questions and shots may need."""
    order = np.random.default_rng(subject.seed).permutation(len(subject.labels))
    return [subject.labels[i] for i in order[: 4 * QUESTIONS]]


def _distinct(endings: dict[str, list[int]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for name, ids in endings.items():
        if tuple(ids) in seen:
            raise ValueError(f"the tokenizer writes the labels {seen[tuple(ids)]!r} and {name!r} alike; rename them")
        seen[tuple(ids)] = name


def _fitting(subject: Subject, lengths: list[int], label: int) -> tuple[list[int], int]:
    """Numbers of shots at which enough of the examples fit, and the longest text that fits at all of them."""
    kept: list[int] = []
    room = 0
    for count in subject.shots:
        fits = (subject.length - 1) // (count + 1) - label
        if np.mean([n <= fits for n in lengths]) < ENOUGH or sum(n <= fits for n in lengths) < count + 2:
            break
        kept.append(count)
        room = fits
    if len(kept) < 2:
        raise ValueError(
            f"the context is too short for the probe 'shots': half of the texts have {int(np.median(lengths)):,} tokens or more, "
            f"and {subject.name} is read over {subject.length:,}; there must be room for one example and a question"
        )
    if len(kept) < len(subject.shots):
        subject.notes.append(f"shots: up to {kept[-1]}; the context of {subject.length:,} positions has no room for more")
    return kept, room


def _answers(
    subject: Subject,
    pieces: list[tuple[list[int], str]],
    questions: np.ndarray,
    shown: list[np.ndarray],
    endings: dict[str, list[int]],
) -> np.ndarray:
    """(questions, labels) log-probability of each label after its prompt."""
    rows = []
    for question, examples in zip(questions, shown, strict=True):
        prompt = [subject.tokenizer.bos_id]
        for i in examples:
            prompt += pieces[i][0] + endings[pieces[i][1]]
        prompt += pieces[question][0]
        rows += [(prompt, ending) for ending in endings.values()]
    length = max(len(p) + len(e) for p, e in rows) - 1
    inputs = np.full((len(rows), length), subject.tokenizer.bos_id)  # the rest stands on the right, where no model looks
    targets = np.full((len(rows), length), IGNORE)
    for row, (prompt, ending) in enumerate(rows):
        ids = prompt + ending
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, len(prompt) - 1 : len(ids) - 1] = ending
    return read(subject.model, inputs, targets).log_probs.sum(1, dtype=np.float64).reshape(len(questions), len(endings))


def _slope(counts: list[int], margin: np.ndarray) -> np.ndarray:
    """(questions,) least-squares slope of the margin in log2(1 + shots)."""
    x = np.log2(1.0 + np.array(counts))
    x -= x.mean()
    return np.asarray(x @ margin / (x @ x))
