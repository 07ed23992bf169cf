"""Penalties and bias against their published definitions."""

import pytest
import torch

from genus.generate.rules import Rules, adjusted
from genus.generate.sampling import Sampling

END = 9
PROMPT = (END, 1, 2, 1)


def rules(new: tuple[int, ...] = (), prompt: tuple[int, ...] = PROMPT, **options: object) -> Rules:
    made = Rules(Sampling(**options), prompt, frozenset([END]))
    for number in new:
        made.push(number)
    return made


def after(made: Rules, logits: torch.Tensor) -> torch.Tensor:
    return adjusted(logits[None], [made])[0]


@pytest.fixture
def logits() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(10) * 3


def test_repetition_penalty_is_that_of_transformers(logits: torch.Tensor) -> None:
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    for penalty in (0.7, 1.3):
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[1, 2, 1, 5, 5]]), logits[None])[0]
        assert torch.equal(after(rules((5, 5), (1, 2, 1), repetition_penalty=penalty), logits), expected)


def test_the_end_of_a_text_is_no_repetition(logits: torch.Tensor) -> None:
    """Our prompts begin with the token that ends a document."""
    changed = after(rules((3,), repetition_penalty=2.0), logits)
    assert changed[END] == logits[END] and all(changed[i] != logits[i] for i in (1, 2, 3))


def test_frequency_and_presence_are_those_of_openai(logits: torch.Tensor) -> None:
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, c[j]: how often the new text has j."""
    counts = torch.zeros(10)
    new = (5, 3, 5, 5)
    for number in new:
        counts[number] += 1
    for frequency, presence in ((0.5, 0.0), (0.0, 1.5), (-0.3, 0.8)):
        expected = logits - counts * frequency - (counts > 0).float() * presence
        made = rules(new, frequency_penalty=frequency, presence_penalty=presence)
        assert torch.allclose(after(made, logits), expected, atol=1e-6)


def test_bias_is_added_first(logits: torch.Tensor) -> None:
    changed = after(rules(logit_bias=((1, 4.0), (7, -100.0)), repetition_penalty=2.0), logits)
    biased = logits[1] + 4
    assert changed[1] == (biased / 2 if biased > 0 else biased * 2)
    assert changed[7] == logits[7] - 100


def test_rows_without_rules_share_the_logits(logits: torch.Tensor) -> None:
    both = torch.stack([logits, logits])
    assert adjusted(both, [rules(), rules((4,))]) is both
    changed = adjusted(both, [rules(), rules(presence_penalty=1.0, new=(4,))])
    assert torch.equal(changed[0], logits) and not torch.equal(changed[1], logits)
    assert torch.equal(both[1], logits)  # the model's own are kept


def test_a_copy_goes_its_own_way(logits: torch.Tensor) -> None:
    made = rules((4,), frequency_penalty=1.0, repetition_penalty=1.5)
    before = after(made, logits)
    tried = made.copy()
    tried.push(6)
    assert torch.equal(after(made, logits), before)
    made.push(6)
    assert torch.equal(after(made, logits), after(tried, logits))
