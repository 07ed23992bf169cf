"""What a server is told: which models, where it listens, who may come in, and how much each may ask for."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field

KEY_LENGTH = 8  # characters of a key at least

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Limits:
    """How much one request, or all of them together, may take.

    Attributes:
        body: bytes of a request. prompt: tokens that are read for one text. tokens: tokens that are written for one text.
        choices: texts that one request may ask for. inputs: texts that one request may have embedded or classified.
        waiting: requests of a model that wait for their turn; more are told to come again later (status 429).
        seconds: from a request's arrival to its last token; what was written by then is the answer.
        upload: seconds in which the body of a request must have come. grace: seconds that running requests have to finish when
            the server is told to stop. connections: open at once.
    """

    body: int = 4 * 2**20
    prompt: int = 32_768
    tokens: int = 4096
    choices: int = 16
    inputs: int = 256
    waiting: int = 256
    seconds: float = 600.0
    upload: float = 30.0
    grace: float = 30.0
    connections: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"the limit {name} is {value}; it must be above 0")


@dataclass(frozen=True)
class Settings:
    """A server's settings.

    Attributes:
        models: runs, model folders, folders that hold some, or NAME=FOLDER. host, port: where to listen; port 0 = any free one.
        key: what a client must send as `Authorization: Bearer KEY`; None = nobody is asked, which only a loopback address allows.
        names: further names by which clients may call the server (the Host header), beside its address.
        weights: how weights are kept: "fp32", "bf16", "int8" or "int4". slots: texts of one model written at once.
        memory: bytes that the weights of all loaded models may take, None = no limit. idle: seconds after which an unused model
            is unloaded. states: bytes that the states of one model's running texts may take; None = a quarter of the machine's
            memory. prefixes: bytes in which each model remembers beginnings of prompts, so that a conversation is not read anew.

    Raises:
        ValueError: the server would be open to others without a key, or a value is out of range.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()
    weights: str = "fp32"
    slots: int = 16
    memory: float | None = None
    idle: float = 900.0
    states: float | None = None
    prefixes: float = 64 * 2**20
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("there is no model to serve; give a run or a model folder, such as genus serve runs/mine")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port {self.port} must be between 1 and 65535, or 0 for any that is free")
        if self.slots < 1:
            raise ValueError(f"slots {self.slots} must be at least 1")
        if self.idle <= 0 or (self.memory is not None and self.memory <= 0):
            raise ValueError("idle (seconds) and memory (bytes) must be above 0")
        if self.key is not None and (len(self.key) < KEY_LENGTH or not self.key.isascii() or not self.key.isprintable()):
            raise ValueError(f"the key must have at least {KEY_LENGTH} characters, all of them ASCII")
        if self.key is None and not self.loopback:
            raise ValueError(
                f"{self.host} lets other machines in, so clients must show a key; choose one and set it in the environment: "
                "GENUS_KEY=... genus serve ... (or give --key)"
            )
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a host name; give it without https:// and port, such as models.example.org")

    @property
    def state_bytes(self) -> float:
        """`states`, or what stands for it."""
        return machine_bytes() / 4 if self.states is None else self.states

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    def may_call(self, host: str | None) -> bool:
        """Whether a Host header is one of this server's own: the defence against DNS rebinding.

        A page of `evil.example` whose name suddenly means 127.0.0.1 still says `Host: evil.example`. An address of numbers
        cannot be rebound, but a server on a loopback address has no reason to be called by any other.
        """
        name = _without_port(host or "").lower()
        if name in {"localhost", *(each.lower() for each in self.names)} or is_loopback(name):
            return True
        if self.loopback:
            return False
        return name in {self.host.lower(), socket.gethostname().lower()} or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def machine_bytes() -> float:
    """Memory that this machine has."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):  # [::1]:8000
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
