# mypy: ignore-errors
# (It runs inside transformers, whose classes change their signatures from version to version.)
"""A Genus language model for transformers. Written beside the weights by `genus export`; needs the package `genus`."""

import torch
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_genus import GenusConfig

try:
    from genus.recipes import names  # noqa: F401  (importing the recipes registers every part)
    from genus.spec import from_json
except ImportError as error:
    raise ImportError("this model is built by the package `genus`; install it: pip install genus") from error


class GenusForCausalLM(PreTrainedModel, GenerationMixin):
    """The model under `self.model`. The text is read anew for every new token; `genus generate` is faster."""

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

    def forward(self, input_ids, attention_mask=None, labels=None, return_dict=None, **kwargs):
        """`attention_mask` marks padding on either side; `labels` are shifted here, as transformers does."""
        doc = None
        if attention_mask is not None and not bool(attention_mask.all()):
            doc = torch.where(attention_mask.bool(), 0, -1)
        logits = self.model(input_ids, doc)
        loss = None
        if labels is not None:
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits) if return_dict is not False else (logits,)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}
