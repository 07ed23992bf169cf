"""What a model is worth on held-out text: bits per byte and perplexity, beside what counting and compression reach."""

from genus.evaluate.denoising import Denoising, evaluate_denoising
from genus.evaluate.evaluation import Evaluation, Measure, evaluate
from genus.evaluate.translation import Translation, evaluate_pairs
from genus.verb import make_callable

__all__ = ["Denoising", "Evaluation", "Measure", "Translation", "evaluate", "evaluate_denoising", "evaluate_pairs"]

make_callable(__name__)
