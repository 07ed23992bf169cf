"""config.json as it is read: what it lacks, and how it calls activations."""

from __future__ import annotations

from typing import Any

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}
"""Names of activations in config.json, and ours."""

WRITTEN = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}


class Config(dict[str, Any]):
    """config.json, which says what it lacks."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"config.json has no {key!r}, which a model of type {self.get('model_type')!r} needs")

    def activation(self, key: str, default: str) -> str:
        """Our name of the activation under `key`."""
        name = self.get(key) or default
        if name not in ACTIVATIONS:
            raise ValueError(f"config.json: {key} {name!r} is not known here; known are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]
