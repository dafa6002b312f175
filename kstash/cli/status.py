"""`kstash status`: asks the HTTP port of a running application what its workers do."""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Annotated

import typer
from rich.live import Live

from kstash.cli.options import Connection, configured
from kstash.cli.status_picture import Json, drawn
from kstash.cli.tables import table_console
from kstash.errors import ConfigError
from kstash.escape import printable
from kstash.settings.config import Config

TIMEOUT_S = 5.0
BYTES_MAX = 64 * 1024 * 1024
INTERVAL_S = 1.0
TOKEN_VARIABLE = "KSTASH_HTTP_TOKEN"
OWN = ("https://127.0.0.1:", "https://[::1]:")
UNKNOWN_ISSUER_CODES = (18, 19, 20, 21)
"""OpenSSL's codes for a certificate that is signed by itself, or by an unknown issuer."""
NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons for a first answer that is not TLS; its version decides which one it gives."""

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where a worker or a supervisor listens, such as http://127.0.0.1:8080. For https "
        "the certificates that this machine trusts count, or those of SSL_CERT_FILE. [default: "
        "http_host and http_port of the settings]",
        show_default=False,
    ),
]


@configured
def status(
    connection: Connection,
    url: Url = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print once what the workers report, as JSON.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
) -> None:
    """Show a running application: its workers, tasks, lag, latest recoveries and errors.

    Live on a terminal, until Ctrl-C; once elsewhere. Asks a worker, or a supervisor, which shows
    its own workers and those of the setting http_peers. Exits with 1 when that one does not answer.
    The token that a port may require is read from KSTASH_HTTP_TOKEN, or the file that
    KSTASH_HTTP_TOKEN_FILE names, or the settings file.
    """
    config = connection.config()
    address = (url or address_of(config)).rstrip("/")
    token, certificate = config.http_token, config.http_tls_certificate
    first = ask_workers(address, token, certificate)
    if as_json:
        print(json.dumps(first))
        return
    console = table_console()
    if once or not console.is_terminal:
        console.print(drawn(first, None))
        return
    try:
        with Live(drawn(first, None), console=console, screen=True, auto_refresh=False) as live:
            _follow(live, address, token, certificate, first)
    except KeyboardInterrupt:
        sys.exit(0)


def _follow(
    live: Live, address: str, token: str | None, certificate: str | None, last: Json
) -> None:
    while True:
        time.sleep(INTERVAL_S)
        problem = None
        try:
            last = ask_workers(address, token, certificate)
        except ConfigError as error:
            problem = str(error)
        live.update(drawn(last, problem), refresh=True)


def address_of(config: Config) -> str:
    """The address at which workers listen, by the settings.

    Raises:
        ConfigError: by the settings they do not listen.
    """
    if not config.http_port:
        raise ConfigError(
            "give --url, such as http://127.0.0.1:8080: these settings have no http_port",
            "http_port",
        )
    host = config.http_host
    # A port at all addresses is asked at the loopback address.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    is_bare = ":" in host and not host.startswith("[")
    scheme = "https" if config.http_tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if is_bare else host}:{config.http_port}"


def ask_workers(address: str, token: str | None, certificate: str | None = None) -> Json:
    """The answer to `GET /workers`.

    Args:
        address: URL of the worker or supervisor.
        token: that the port requires; None: none.
        certificate: file of the certificate of the application's workers, which is trusted too.

    Raises:
        ConfigError: nobody answers there, or something that is no worker; names the address.
    """
    problem = ""
    try:
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"write it with its scheme, such as http://{address}")
        request = urllib.request.Request(f"{address}/workers")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        context = _context(address, certificate)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
            found = json.loads(answer.read(BYTES_MAX))
        if isinstance(found, dict) and isinstance(found.get("workers"), list):
            return found
        problem = "what answers there is no worker of kstash"
    except urllib.error.HTTPError as error:
        hint = f": give the token in {TOKEN_VARIABLE}" if error.code == 401 else ""
        problem = f"HTTP {error.code}{hint}"
    except urllib.error.URLError as error:
        problem = f"{error.reason}{_hint(error.reason)}{_scheme_hint(address, error.reason)}"
        if isinstance(error.reason, ConnectionRefusedError):
            problem += ": a worker answers with the setting http_port only, at that port"
    except (OSError, HTTPException, ValueError) as error:
        problem = f"{error}{_scheme_hint(address, error)}"
    raise ConfigError(f"no status from {printable(address)}: {printable(problem)}", "--url")


def _context(address: str, certificate: str | None) -> ssl.SSLContext | None:
    if not address.startswith("https://"):
        return None
    if certificate is None:
        return ssl.create_default_context()
    # Imported late: few use TLS, and this imports asyncio.
    from kstash.observe.asking import trusting

    try:
        context = trusting(certificate)
    except OSError as error:
        raise ValueError(f"http_tls_certificate {certificate}: {error}") from error
    if address.startswith(OWN):
        # The certificate is for the name that other machines use, and seldom for this one.
        context.check_hostname = False
    return context


def _hint(reason: object) -> str:
    if getattr(reason, "verify_code", None) not in UNKNOWN_ISSUER_CODES:
        return ""
    return ": nobody whom this machine trusts signed it; give its file in SSL_CERT_FILE"


def _scheme_hint(address: str, reason: object) -> str:
    """A hint at the other scheme: a port for HTTPS hangs up, and one for HTTP speaks no TLS."""
    if address.startswith("http://") and isinstance(reason, ConnectionResetError):
        return f": a port with a certificate hangs up so; try https://{address[len('http://') :]}"
    if getattr(reason, "reason", None) in NO_TLS_REASONS:
        return f": a port without a certificate answers so; try http://{address[len('https://') :]}"
    return ""
