"""The other workers of an application: their addresses and their status."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from kstash.observe import schema
from kstash.observe.access import Access, Certificate
from kstash.observe.asking import ANSWER_S, Address, UnreachableError, ask
from kstash.settings import derived
from kstash.settings.config import Config

PEERS_MAX = 256
"""Most addresses that are asked; for a larger group there is Prometheus."""

AT_ONCE_MAX = 32
KEPT_S = 1.0
"""How long answers are kept: pages in many browsers cause no more requests than one page."""

OK = frozenset({200})


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses of `http_peers`; and names that have no address, with the reason."""

    addresses: tuple[Address, ...]
    missing: tuple[tuple[str, str], ...]


class Peers:
    """Asks the servers that `http_peers` names.

    Args:
        peers: host and port of each; a name stands for all its addresses.
        token: required by these servers; None: none is.
        certificate: that these servers have too; None: plain HTTP.
    """

    def __init__(
        self,
        peers: Sequence[tuple[str, int]],
        token: bytes | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._peers = peers
        self._token = token
        self._certificate = certificate
        self._lock = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._answers: list[tuple[schema.WorkerEntry, ...]] = []
        self._asked = -KEPT_S

    @classmethod
    def of(cls, config: Config, access: Access) -> Self:
        """The peers in the settings."""
        return cls(derived.peers(config), access.token, access.certificate)

    @property
    def scheme(self) -> str:
        """Their addresses."""
        return "http" if self._certificate is None else "https"

    @property
    def are_known(self) -> bool:
        """Whether the settings name any."""
        return bool(self._peers)

    async def find(self) -> Found:
        """Resolve their names."""
        tls = self._certificate.client_context() if self._certificate is not None else None
        found: dict[tuple[str, int], Address] = {}
        missing: list[tuple[str, str]] = []
        for host, port in self._peers:
            try:
                for ip in await _resolved(host, port):
                    # A certificate is for the name in the settings, or for the address there.
                    found.setdefault((ip, port), Address(ip, port, tls=tls, name=host))
            except OSError as error:
                missing.append((f"{host}:{port}", f"its name has no address ({error.strerror})"))
        return Found(tuple(found.values())[:PEERS_MAX], tuple(missing))

    async def join(self, own: tuple[schema.WorkerEntry, ...]) -> schema.Workers:
        """All workers: this server's own, and those that the other servers report."""
        async with self._lock:
            if time.monotonic() - self._asked >= KEPT_S:
                self._answers = await self._ask_all()
                self._asked = time.monotonic()
        names = {entry.status.worker for entry in own if entry.status is not None}
        others = [
            entry
            for entries in self._answers
            if names.isdisjoint(_names(entries))  # one of the addresses is this server's own
            for entry in entries
        ]
        return schema.Workers(workers=(*own, *others))

    async def _ask_all(self) -> list[tuple[schema.WorkerEntry, ...]]:
        found = await self.find()
        answers = list(await asyncio.gather(*map(self._ask, found.addresses)))
        for name, reason in found.missing:
            answers.append((_unreachable(name, reason),))
        return answers

    async def _ask(self, address: Address) -> tuple[schema.WorkerEntry, ...]:
        try:
            async with self._places:
                _, content = await ask(address, "/workers?peers=false", self._token, wanted=OK)
            workers = msgspec.json.decode(content, type=schema.Workers).workers
        except UnreachableError as error:
            return (_unreachable(str(address), str(error)),)
        except msgspec.DecodeError as error:
            return (_unreachable(str(address), f"what answers is no kstash ({error})"),)
        return tuple(msgspec.structs.replace(w, address=str(address)) for w in workers)


def _names(entries: Iterable[schema.WorkerEntry]) -> set[str]:
    return {entry.status.worker for entry in entries if entry.status is not None}


def _unreachable(address: str, reason: str) -> schema.WorkerEntry:
    return schema.WorkerEntry(address=address, is_reachable=False, error=reason)


async def _resolved(host: str, port: int) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(ANSWER_S):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})
