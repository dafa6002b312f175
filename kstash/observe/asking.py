"""HTTP requests between servers: of a supervisor to its workers, of a worker to the others."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import h11

ANSWER_S = 2.0
"""Time for an answer; a later one counts as none. Prometheus itself gives up after 10 s."""

ANSWER_BYTES_MAX = 32 * 1024 * 1024
"""Largest answer. The metrics of a worker with thousands of partitions are some megabytes."""


HUNG_UP = "it hangs up without an answer"
HTTPS_PERHAPS = f"{HUNG_UP}, as a port with a certificate does when it is asked by HTTP"


class UnreachableError(Exception):
    """Nobody answered, or something that is no worker."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: IP address, or host name.
        port: TCP port.
        socket: path of a Unix socket, in place of host and port.
        tls: for HTTPS.
        name: host name that its certificate must have; empty: the host.
    """

    host: str = "localhost"
    port: int = 0
    socket: Path | None = None
    tls: ssl.SSLContext | None = None
    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def trusting(certificate: str) -> ssl.SSLContext:
    """For HTTPS to an application's workers: trusts their certificate, and the system's issuers.

    Args:
        certificate: file of the workers' certificate, in PEM.

    Raises:
        OSError: the file cannot be used.
    """
    context = ssl.create_default_context()
    # A certificate that several workers share need not be signed by an issuer.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    return context


async def ask(
    address: Address, target: str, token: bytes | None = None, *, wanted: frozenset[int]
) -> tuple[int, bytes]:
    """Code and content of the answer to a GET.

    Args:
        address: the server.
        target: path and query.
        token: required by the server; None: none is.
        wanted: status codes that count as answers.

    Raises:
        UnreachableError: no answer within `ANSWER_S`, or another one.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            code, content = await _exchange(address, target, token)
    except TimeoutError:
        raise UnreachableError(f"no answer within {ANSWER_S:g} s") from None
    except OSError as error:
        raise UnreachableError(_reason(error)) from None
    except h11.ProtocolError as error:
        raise UnreachableError(f"what answers is no kstash ({error})") from None
    if code not in wanted:
        shown = content[:200].decode(errors="replace").strip()
        raise UnreachableError(f"it answers {code}: {shown}")
    return code, content


def _reason(error: OSError) -> str:
    # asyncio's text would repeat the address.
    if error.errno is None or isinstance(error, ssl.SSLError):
        return str(error)
    return os.strerror(error.errno)


async def _exchange(address: Address, target: str, token: bytes | None) -> tuple[int, bytes]:
    if address.socket is not None:
        reader, writer = await asyncio.open_unix_connection(address.socket)
    else:
        name = (address.name or address.host) if address.tls is not None else None
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=address.tls, server_hostname=name
        )
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("host", str(address)), ("connection", "close")]
        if token is not None:
            headers.append(("authorization", f"Bearer {token.decode()}"))
        request = h11.Request(method="GET", target=target, headers=headers)
        for event in (request, h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        is_plain = address.tls is None and address.socket is None
        return await _answer(connection, reader, HTTPS_PERHAPS if is_plain else HUNG_UP)
    finally:
        writer.transport.abort()


async def _answer(
    connection: h11.Connection, reader: asyncio.StreamReader, hung_up: str
) -> tuple[int, bytes]:
    code, content = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            received = await reader.read(65_536)
            if not received and not code:
                raise OSError(hung_up)
            connection.receive_data(received)
        elif isinstance(event, h11.Response):
            code = event.status_code
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > ANSWER_BYTES_MAX:
                raise OSError(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return code, bytes(content)
