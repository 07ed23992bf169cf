"""Mask keys, tokens and passwords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from genus.prepare import credentials
from genus.prepare.masking import Kind, mask_column
from genus.prepare.steps.step import Function, Outcome, Step, each_column

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = (
    Kind("private key", "<PRIVATE_KEY>", credentials.BLOCK_GATE, credentials.find_blocks),
    Kind("key of a known format", "<API_KEY>", credentials.KEY_GATE, credentials.find_keys),
    Kind("password in an address", "<PASSWORD>", credentials.URL_GATE, credentials.find_url_passwords),
    Kind("random value beside a telling word", "<SECRET>", credentials.VALUE_GATE, credentials.find_values),
)


@dataclass(frozen=True)
class Secrets(Step):
    """Mask API keys, private key blocks, passwords in URLs, and random values beside words like key, secret or password.

    Only the value is replaced, so code stays code. Placeholders ("your-api-key"), names, UUIDs and checksums stay.
    """

    NAME: ClassVar[str] = "secrets"
    PAIRS: ClassVar[bool] = True

    def ready(self) -> Function:
        def mask(batch: pa.RecordBatch) -> Outcome:
            return each_column(batch, lambda left, column: mask_column(left, column, KINDS))

        return mask
