# mypy: ignore-errors
# (It runs inside transformers, whose classes change their signatures from version to version.)
"""Genus models for transformers. Written beside the weights by `genus export`; needs the package `genus`."""

import torch
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .configuration_genus import GenusConfig

try:
    from genus.recipes import names  # noqa: F401  (importing the recipes registers every part)
    from genus.spec import from_json
except ImportError as error:
    raise ImportError("this model is built by the package `genus`; install it: pip install genus") from error


class GenusModel(PreTrainedModel):
    """The model under `self.model`; alone it gives vectors."""

    config_class = GenusConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        spec = from_json(config.genus["spec"])
        self.model = spec.build(0)
        tied = {"model.head.weight": "model.embed.tokens.weight"} if spec.head.tied else {}
        # transformers 5 wants a mapping, 4 the names alone
        self._tied_weights_keys = tied if hasattr(PreTrainedModel, "get_expanded_tied_weights_keys") else list(tied)
        self.post_init()

    def _init_weights(self, module):
        """The specification has drawn them."""

    def get_input_embeddings(self):
        return self.model.embed.tokens

    def outputs(self, input_ids, attention_mask=None, token_type_ids=None):
        """What the head gives; `attention_mask` marks padding on either side."""
        doc = None
        if attention_mask is not None and not bool(attention_mask.all()):
            doc = torch.where(attention_mask.bool(), 0, -1)
        return self.model(input_ids, doc, types=token_type_ids if self.model.spec.embed.types else None)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, return_dict=None, **kwargs):
        return given(BaseModelOutput(self.outputs(input_ids, attention_mask, token_type_ids)), return_dict)


class GenusForCausalLM(GenusModel, GenerationMixin):
    """The text is read anew for every new token; `genus generate` is faster."""

    def forward(self, input_ids, attention_mask=None, labels=None, return_dict=None, token_type_ids=None, **kwargs):
        """`labels` are shifted here, as transformers does."""
        logits = self.outputs(input_ids, attention_mask, token_type_ids)
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return given(CausalLMOutput(loss, logits), return_dict)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}


class Source(torch.nn.Module):
    """In the place of an encoder: hands its ids on, so that `generate` keeps them in step with the beams."""

    main_input_name = "input_ids"

    def forward(self, input_ids, attention_mask=None, **kwargs):
        return BaseModelOutput(input_ids[..., None])


class GenusForSeq2SeqLM(GenusModel, GenerationMixin):
    """A text from another; both are read anew for every new token, `genus generate` is faster."""

    def get_encoder(self, *args, **kwargs):
        return Source()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        decoder_input_ids=None,
        encoder_outputs=None,
        labels=None,
        return_dict=None,
        **kwargs,
    ):
        """Where no `decoder_input_ids` are given, they are the labels behind the start token."""
        source = input_ids if encoder_outputs is None else encoder_outputs[0][..., 0]
        if decoder_input_ids is None and labels is not None:
            start = labels.new_full((len(labels), 1), self.config.decoder_start_token_id)
            decoder_input_ids = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)
        shown = None if attention_mask is None else torch.where(attention_mask.bool(), 0, -1)
        logits = self.model(decoder_input_ids, source=source, source_doc=shown)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return given(Seq2SeqLMOutput(loss, logits), return_dict)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, encoder_outputs=None, **kwargs):
        return {"decoder_input_ids": input_ids, "attention_mask": attention_mask, "encoder_outputs": encoder_outputs}


class GenusForMaskedLM(GenusModel):
    """`labels` are the tokens under the masks, -100 elsewhere."""

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, return_dict=None, **kwargs):
        logits = self.outputs(input_ids, attention_mask, token_type_ids)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return given(MaskedLMOutput(loss, logits), return_dict)


class GenusForSequenceClassification(GenusModel):
    """A row of outputs for a text; `config.problem_type` says what they are."""

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, return_dict=None, **kwargs):
        logits = self.outputs(input_ids, attention_mask, token_type_ids)
        return given(SequenceClassifierOutput(self._loss(logits, labels), logits), return_dict)

    def _loss(self, logits, labels):
        if labels is None:
            return None
        match self.config.problem_type:
            case "regression":
                return F.mse_loss(logits.flatten(), labels.to(logits).flatten())
            case "multi_label_classification":
                return F.binary_cross_entropy_with_logits(logits, labels.to(logits))
        return F.cross_entropy(logits, labels)


class GenusForTokenClassification(GenusModel):
    """A row of outputs for every position; labels of -100 do not count."""

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, return_dict=None, **kwargs):
        logits = self.outputs(input_ids, attention_mask, token_type_ids)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return given(TokenClassifierOutput(loss, logits), return_dict)


class GenusForQuestionAnswering(GenusModel):
    """Where an answer begins and where it ends."""

    def forward(
        self,
        input_ids,
        attention_mask=None,
        token_type_ids=None,
        start_positions=None,
        end_positions=None,
        return_dict=None,
        **kwargs,
    ):
        start, end = self.outputs(input_ids, attention_mask, token_type_ids).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (F.cross_entropy(start, start_positions) + F.cross_entropy(end, end_positions)) / 2
        return given(QuestionAnsweringModelOutput(loss, start, end), return_dict)


def given(output, return_dict):
    """The output, or the tuple that older callers ask for."""
    return output if return_dict is not False else output.to_tuple()
