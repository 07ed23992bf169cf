"""A model of the installed transformers beside ours: one input, and every output of both as one list of numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.parts.head import Head
from genus.parts.task_head import Pool, TaskHead, Vectors

ATOL = 1e-4
MOVED = 1e-3
VOCAB, PAD = 61, 0
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCAB}
WIDE = SIZES | {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = WIDE | {"num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "vocab_size": VOCAB}
T5_V1_1 = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
ROBERTA = WIDE | {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
ALBERT = WIDE | {"embedding_size": 16}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": VOCAB, "max_position_embeddings": 64}
# A constant added to every key adds the same number to all scores of a query, which the softmax takes away again.
KEY_BIAS = "k_proj.bias"


@dataclass(frozen=True)
class Case:
    """A peer, its configuration, and the parameters of ours whose change cannot show."""

    model: str
    config: str
    arguments: dict[str, Any] = field(default_factory=dict)
    silent: str | None = None

    def build(self) -> Any:
        """The peer, every number of it drawn anew."""
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, self.config)(**self.arguments)
        config._attn_implementation = "eager"
        peer = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for p in peer.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        self._untie(peer)
        return peer

    def _untie(self, peer: Any) -> None:
        """transformers ties T5 v1.1 when it makes one from nothing; real checkpoints have a read-out of their own."""
        if self.arguments.get("tie_word_embeddings") is False and hasattr(peer, "lm_head") and peer.config.model_type == "t5":
            peer.lm_head.weight = torch.nn.Parameter(torch.randn_like(peer.lm_head.weight))
            peer.all_tied_weights_keys.pop("lm_head.weight", None)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def runner(peer: Any) -> Callable[[Any], Tensor]:
    """A function that gives all outputs of the peer, or of our model, on one input: two rows, the second one shorter."""
    g = torch.Generator().manual_seed(1)
    kind = peer.config.model_type
    pad = peer.config.pad_token_id if peer.config.pad_token_id is not None else PAD
    ids = torch.randint(3, VOCAB, (2, 24), generator=g)
    source = torch.randint(3, VOCAB, (2, 17), generator=g)
    types = torch.randint(0, 2, ids.shape, generator=g)
    theirs: dict[str, Tensor] = {}
    ours: dict[str, Tensor] = {}
    shown = torch.ones_like(ids, dtype=torch.bool)
    mask = torch.ones_like(source)
    mask[0, 12:] = 0
    if kind == "t5" and hasattr(peer, "classification_head"):  # both sides read the same text, which ends with its end token
        source[0, 11] = source[1, -1] = peer.config.eos_token_id
        theirs = {"input_ids": source, "attention_mask": mask, "decoder_attention_mask": mask}
        begun = torch.cat([torch.full((2, 1), peer.config.decoder_start_token_id), source[:, :-1]], dim=1)
        ours = {"ids": begun, "doc": mask - 1, "source": source, "source_doc": mask - 1}
    elif kind == "t5" and hasattr(peer, "decoder"):
        theirs = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": ids}
        ours = {"ids": ids, "source": source, "source_doc": mask - 1}
    else:
        shown[1, 19:] = False
        ids = torch.where(shown, ids, pad)
        theirs = {"input_ids": ids, "attention_mask": shown.long()}
        ours = {"ids": ids, "doc": shown.long() - 1}
    if kind in ("bert", "albert"):
        theirs["token_type_ids"] = ours["types"] = types

    @torch.no_grad()
    def outputs(model: Any) -> Tensor:
        found = _of_ours(model, ours) if hasattr(model, "spec") else _of_theirs(model(**theirs))
        kept = [x[shown] if x.shape[:2] == shown.shape else x for x in found]
        return torch.cat([x.float().flatten() for x in kept])

    return outputs


NAMES = ("logits", "prediction_logits", "last_hidden_state", "seq_relationship_logits", "sop_logits", "pooler_output")


def _of_theirs(output: Any) -> list[Tensor]:
    if hasattr(output, "start_logits"):
        return [torch.stack([output.start_logits, output.end_logits], dim=-1)]
    return [output[name] for name in NAMES if output.get(name) is not None]


def _of_ours(model: Any, given: dict[str, Tensor]) -> list[Tensor]:
    found, doc = [model(**given)], given.get("doc")
    match model.spec.head:
        case Head(task=TaskHead()):
            found.append(model.head.task(model.hidden(**given), doc))
        case Vectors(pool=Pool()):
            found.append(model.head.pool(model.hidden(**given), doc))
    return found


def silent_parameters(ours: Any, outputs: Callable[[Any], Tensor], expected: Tensor) -> set[str]:
    """The negative control: parameters of ours that may change without moving any output."""
    silent = set()
    for name, p in ours.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad():
            p.add_(torch.randn_like(p))
            if (outputs(ours) - expected).abs().max() < MOVED:
                silent.add(name)
            p.copy_(kept)
    return silent
