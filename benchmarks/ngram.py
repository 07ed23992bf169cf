"""The n-gram estimator and model beside their peers.

    python -m benchmarks.ngram TEXT [--shakespeare FILE] [--folder SCRATCH]

TEXT is a large plain text; enwik8 for the published figures (PyPI source archive `titans-pytorch` 0.1.6, `data/enwik8.gz`,
unpacked). Peers (extra `bench`): `arpabo` and `nltk.lm` estimate, `kenlm` queries. Every estimator runs in a process of its own;
wall and processor seconds are shown, and ratios are of processor seconds, which other users of the machine disturb less (a peer
uses one thread, so on a quiet machine both are the same; ours uses all cores and is charged for all of them).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks._quiet import quiet

SAMPLE = 5_000_000  # bytes for the peers, which keep dictionaries; 100 MB would need more memory than most machines have
ORDER = 5
VOCAB = 16_384


class Stream:
    """Token files as a split: read from disk, not held."""

    def __init__(self, folder: Path, tokens: int | None = None) -> None:
        self.path, ends = folder / "tokens.npy", np.load(folder / "ends.npy")
        self.ends = ends if tokens is None else ends[ends <= tokens]
        self.tokens = int(self.ends[-1])
        with open(self.path, "rb") as file:
            np.lib.format.read_magic(file)
            self.dtype = np.lib.format.read_array_header_1_0(file)[2]
            self.offset = file.tell()

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.fromfile(self.path, self.dtype, stop - start, offset=self.offset + start * self.dtype.itemsize)


def save_stream(folder: Path, documents: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tokens.npy", np.concatenate(documents).astype(np.uint32))
    np.save(folder / "ends.npy", np.cumsum([len(d) for d in documents]))


# ---- jobs, each in its own process; they return what to add to the figures


def job_genus(folder: Path, memory: int, tokens: int | None = None) -> dict:
    from genus.train.kneser_ney import estimate

    sizes = json.loads((folder / "sizes.json").read_text())
    base = peak_mb()
    model = estimate(Stream(folder, tokens), ORDER, sizes["vocab"], 0, 0, folder / "model", memory=memory * 2**20)
    return {"base_mb": base, "grams": sum(model.spec.grams), "disk_mb": _disk_mb(folder / "model")}


def job_genus_lines(folder: Path, memory: int) -> dict:
    """From text lines, as the peers: words are split and numbered here."""
    words: dict[str, int] = {"</s>": 0}
    documents = [
        np.array([*(words.setdefault(w, len(words)) for w in line.split()), 0])
        for line in (folder / "lines.txt").read_text(encoding="utf-8").splitlines()
    ]
    save_stream(folder, documents)
    (folder / "sizes.json").write_text(json.dumps({"vocab": len(words)}))
    (folder / "words.json").write_text(json.dumps(list(words)))
    return job_genus(folder, memory)


def job_arpabo(folder: Path) -> dict:
    from arpabo.lm import ArpaBoLM

    model = ArpaBoLM(max_order=ORDER, smoothing_method="kneser_ney")
    with open(folder / "lines.txt", encoding="utf-8") as file:
        model.read_corpus(file)
    model.compute()
    return {"grams": sum(model.counts[1:])}


def job_nltk(folder: Path) -> dict:
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import padded_everygram_pipeline

    lines = [line.split() for line in (folder / "lines.txt").read_text(encoding="utf-8").splitlines()]
    model = KneserNeyInterpolated(ORDER)
    model.fit(*padded_everygram_pipeline(ORDER, lines))
    return {}


JOBS = {"genus": job_genus, "genus_lines": job_genus_lines, "arpabo": job_arpabo, "nltk": job_nltk}


def peak_mb() -> float:
    """Largest resident set of this process; `ru_maxrss` would begin with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _disk_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.iterdir()) / 2**20


def run_job(name: str, *arguments: object) -> dict:
    command = [sys.executable, "-m", "benchmarks.ngram", "--job", name, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(name: str, folder: str, *numbers: str) -> None:
    import torch  # noqa: F401 - not part of the measured time

    wall, cpu = time.perf_counter(), time.process_time()
    extra = JOBS[name](Path(folder), *map(int, numbers))
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak_mb": peak_mb(), **extra}))


# ---- the tables


def peers(text: Path, scratch: Path) -> None:
    folder = scratch / "sample"
    folder.mkdir()
    with open(text, "rb") as file:
        lines = [x for x in file.read(SAMPLE).decode("utf-8", "ignore").splitlines() if x.strip()]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(
        f"\n{ORDER}-gram of {SAMPLE / 1e6:.0f} MB of text, {sum(len(x.split()) for x in lines):,} words in {len(lines):,} lines"
    )
    print(f"{'':10}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}   times ours (CPU)")
    ours = run_job("genus_lines", folder, 1024)
    rows = (("genus", "complete model on disk"), ("arpabo", "smoothed"), ("nltk", "counts only; it smooths when asked"))
    for name, note in rows:
        r = ours if name == "genus" else run_job(name, folder)
        print(f"{name:10}{r['wall']:9.1f}{r['cpu']:9.1f}{r['peak_mb']:9.0f}   {r['cpu'] / ours['cpu']:.1f}  ({note})", flush=True)
    kenlm_agrees(text, folder, scratch)


def kenlm_agrees(text: Path, folder: Path, scratch: Path) -> None:
    """Held-out lines of known words, scored by kenlm from our ARPA file and by us."""
    import kenlm
    import torch

    from genus.export.arpa import escape, write_arpa
    from genus.export.arpa_reader import read_arpa
    from genus.parts.ngram_files import load_ngram

    model, words = load_ngram(folder / "model"), json.loads((folder / "words.json").read_text())
    names = ["</s>", *map(escape, words[1:])]
    wall = time.perf_counter()
    write_arpa(scratch / "model.arpa", model, names)
    size = (scratch / "model.arpa").stat().st_size / 2**20
    print(f"\nARPA: {size:.0f} MB written in {time.perf_counter() - wall:.1f} s", end="")
    wall = time.perf_counter()
    again, _ = read_arpa(scratch / "model.arpa", names, 0, 0)
    print(
        f", read in {time.perf_counter() - wall:.1f} s, tables equal: {all(map(torch.equal, model.buffers(), again.buffers()))}"
    )
    peer = kenlm.Model(str(scratch / "model.arpa"))
    ids = {w: i for i, w in enumerate(words)}
    with open(text, "rb") as file:
        file.seek(3 * SAMPLE)
        held = [x.split() for x in file.read(SAMPLE // 5).decode("utf-8", "ignore").splitlines()]
    held = [[w for w in line if w in ids] for line in held]
    held = [line for line in held if line]
    sentences = [" ".join(names[ids[w]] for w in line) for line in held]
    cpu = time.process_time()
    for sentence in sentences:
        peer.score(sentence)
    cpu = time.process_time() - cpu
    # kenlm.score adds in float32, which loses 1e-4 on lines of thousands of words; add its words in float64
    theirs = np.array([sum(p for p, _, _ in peer.full_scores(sentence)) for sentence in sentences])
    ends = torch.tensor([len(line) + 1 for line in held])
    targets = torch.tensor([i for line in held for i in (*(ids[w] for w in line), 0)])
    doc = torch.repeat_interleave(torch.arange(len(held)), ends)
    inputs = torch.cat([targets.new_zeros(1), targets[:-1]])
    scores = model.score(inputs[None], targets[None], doc[None])[0].double() / np.log(10)
    ours = torch.zeros(len(held), dtype=torch.double).index_add_(0, doc, scores).numpy()
    print(f"kenlm {len(held):,} held-out lines: largest difference of log10 p {np.abs(ours - theirs).max():.1e}")
    print(f"  kenlm.score through Python {len(targets) / cpu:,.0f} tokens per CPU second")


def large(text: Path, scratch: Path) -> None:
    """The whole text in BPE tokens, in bounded memory, and how fast it is queried."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder = scratch / "large"
    whole = text.read_bytes().decode("utf-8", "replace")
    pages = [p for p in whole.split("</page>\n") if p]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pages[:2000], trainer)
    documents = []
    for start in range(0, len(pages), 512):
        documents += [np.array([*e.ids, 0], np.uint32) for e in tokenizer.encode_batch_fast(pages[start : start + 512])]
    save_stream(folder, documents)
    (folder / "sizes.json").write_text(json.dumps({"vocab": VOCAB}))
    total = Stream(folder).tokens
    del whole, pages, documents
    print(f"\n{ORDER}-gram of {text.stat().st_size / 1e6:.0f} MB: {total:,} BPE tokens of {VOCAB:,} types")
    print(f"{'tokens':>12}{'limit MB':>10}{'wall s':>9}{'CPU s':>9}{'peak MB above torch':>21}{'grams':>13}{'disk MB':>9}")
    for memory, tokens in ((256, total // 10), (256, total), (1024, total)):
        r = run_job("genus", folder, memory, tokens)
        above = r["peak_mb"] - r["base_mb"]
        print(f"{tokens:12,}{memory:10}{r['wall']:9.1f}{r['cpu']:9.1f}{above:21.0f}{r['grams']:13,}{r['disk_mb']:9.0f}")
    from genus.parts.ngram_files import load_ngram

    model = load_ngram(folder / "model")
    stream = torch.from_numpy(Stream(folder).read(total - 2**20 - 1, total).astype(np.int64))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        window = quiet(lambda: model.score(stream[None, :-1], stream[None, 1:]))
        speed = f"score, {threads} thread{'s' * (threads > 1)}: {2**20 / window.seconds:,.0f} tokens/s"
        print(f"{speed} (others used {window.others:.0%} of the cores)", flush=True)


def characters(file: Path, scratch: Path) -> None:
    """tiny-shakespeare by characters: the first 90 % counted, the last 10 % predicted."""
    import torch

    from genus.train.kneser_ney import estimate

    raw = file.read_bytes()
    symbols, ids = np.unique(np.frombuffer(raw, np.uint8), return_inverse=True)
    cut, end = len(raw) * 9 // 10, len(symbols)
    save_stream(scratch / "characters", [np.append(ids[:cut], end)])
    targets = torch.from_numpy(np.append(ids[cut:], end))
    inputs = torch.cat([torch.tensor([end]), targets[:-1]])
    print(f"\n{file.name} by characters: {cut:,} counted, {len(raw) - cut:,} predicted (the end included)")
    print(f"{'order':>6}{'bits/byte':>11}{'nats/char':>11}{'grams':>11}{'seconds':>9}")
    for order in range(1, 9):
        wall = time.perf_counter()
        model = estimate(Stream(scratch / "characters"), order, end + 1, end, end, scratch / "characters" / "model")
        wall = time.perf_counter() - wall
        nats = -model.score(inputs[None], targets[None]).double().sum().item() / (len(raw) - cut)
        print(f"{order:6}{nats / np.log(2):11.4f}{nats:11.4f}{sum(model.spec.grams):11,}{wall:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--shakespeare", type=Path, default=Path("../shared/data/tinyshakespeare/input.txt"))
    parser.add_argument("--folder", type=Path, help="scratch space, about twelve times the text")
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return child(*options.job)
    scratch = Path(tempfile.mkdtemp(prefix="ngram-", dir=options.folder))
    try:
        if options.shakespeare.is_file():
            characters(options.shakespeare, scratch)
        else:
            print(f"{options.shakespeare} is not there: characters are left out")
        if options.text:
            peers(options.text, scratch)
            large(options.text, scratch)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
