# mypy: ignore-errors
# (It runs inside transformers, whose classes change their signatures from version to version.)
"""Configuration of a Genus model for transformers. Written beside the weights by `genus export`."""

from transformers import PretrainedConfig


class GenusConfig(PretrainedConfig):
    """`genus["spec"]` is the whole specification; the other keys repeat what transformers asks for."""

    model_type = "genus"

    def __init__(self, genus=None, tie_word_embeddings=True, use_cache=False, **kwargs):
        self.genus = genus or {}
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
        self.use_cache = use_cache
