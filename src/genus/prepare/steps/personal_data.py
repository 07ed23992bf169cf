"""Mask personal data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from genus.prepare import addresses, emails, identity_numbers, phones
from genus.prepare.masking import Kind, mask_column
from genus.prepare.steps.step import Function, Outcome, Step, each_column
from genus.spec import nearest

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = {
    "email": Kind("e-mail address", "<EMAIL>", emails.GATE, emails.find_emails),
    "iban": Kind("bank account", "<IBAN>", identity_numbers.IBAN_GATE, identity_numbers.find_ibans),
    "resident": Kind("Chinese identity number", "<ID>", identity_numbers.RESIDENT_GATE, identity_numbers.find_residents),
    "card": Kind("payment card", "<CARD>", identity_numbers.CARD_GATE, identity_numbers.find_cards),
    "ssn": Kind("social security number", "<SSN>", identity_numbers.SOCIAL_SECURITY_GATE, identity_numbers.find_social_security),
    "phone": Kind("phone number", "<PHONE>", phones.GATE, phones.find_phones),
    "ip": Kind("IP address", "<IP>", addresses.GATE, addresses.find_addresses),
}
"""Where two find the same digits, the earlier has them: check digits before looser rules."""


@dataclass(frozen=True)
class PersonalData(Step):
    """Mask e-mail addresses, phone, card, account and identity numbers and public IP addresses with <EMAIL>, <PHONE> ...

    Precision comes first: check digits are computed, dates and country codes are looked at, and versions, ISBNs and private
    addresses stay. Names of people are not found.

    Attributes:
        kinds: what to mask; everything when empty.
    """

    NAME: ClassVar[str] = "personal-data"
    PAIRS: ClassVar[bool] = True

    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"personal-data:kinds has no kind {kind!r}{nearest(kind, KINDS)}")

    def ready(self) -> Function:
        wanted = [kind for name, kind in KINDS.items() if not self.kinds or name in self.kinds]

        def mask(batch: pa.RecordBatch) -> Outcome:
            return each_column(batch, lambda left, column: mask_column(left, column, wanted))

        return mask
