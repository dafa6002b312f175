"""`kstash status`: what a running application does, as its HTTP port tells."""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kstash.cli.options import Connection, configured
from kstash.cli.tables import table_console
from kstash.errors import ConfigError
from kstash.escape import printable
from kstash.settings.config import Config

TIMEOUT_S = 5.0
BYTES_MAX = 64 * 1024 * 1024
INTERVAL_S = 1.0
TOKEN_VARIABLE = "KSTASH_HTTP_TOKEN"
TASKS_SHOWN = 40
LATEST = 3
OWN = ("https://127.0.0.1:", "https://[::1]:")
UNKNOWN_ISSUER_CODES = (18, 19, 20, 21)
"""OpenSSL's, of a certificate that is signed by itself, or by somebody unknown."""
NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""OpenSSL's, of what comes as the first answer and is no TLS; which one goes by its version."""
STYLES = {"live": "green", "recovering": "yellow", "stopping": "yellow", "starting": "yellow"}

Json = dict[str, Any]


@configured
def status(
    connection: Connection,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where a worker or a supervisor listens, such as http://127.0.0.1:8080; https by "
            "the certificates that this machine trusts, or SSL_CERT_FILE. [default: http_host and "
            "http_port of the settings]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print once what the workers say, as JSON.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
) -> None:
    """Show a running application: its workers, tasks, lag, latest recoveries and errors.

    Live on a terminal, until Ctrl-C; once elsewhere. Asks a worker, or a supervisor, which shows
    its own workers and those of the setting http_peers. Exits with 1 when that one does not answer.
    A token that the port asks for is taken from KSTASH_HTTP_TOKEN, or the file that
    KSTASH_HTTP_TOKEN_FILE names, or the settings file.
    """
    config = connection.config()
    address = (url or address_of(config)).rstrip("/")
    token, certificate = config.http_token, config.http_tls_certificate
    first = ask(address, token, certificate)
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
            last = ask(address, token, certificate)
        except ConfigError as error:
            problem = str(error)
        live.update(drawn(last, problem), refresh=True)


def address_of(config: Config) -> str:
    """Where the settings say that it listens.

    Raises:
        ConfigError: they say that it does not.
    """
    if not config.http_port:
        raise ConfigError(
            "give --url, such as http://127.0.0.1:8080: these settings have no http_port",
            "http_port",
        )
    host = config.http_host
    # What it listens on at all addresses is asked at this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    is_bare = ":" in host and not host.startswith("[")
    scheme = "https" if config.http_tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if is_bare else host}:{config.http_port}"


def ask(address: str, token: str | None, certificate: str | None = None) -> Json:
    """What `GET /workers` answers.

    Args:
        address: where from.
        token: that it wants.
        certificate: file of the one that the application's workers have; trusted too.

    Raises:
        ConfigError: nobody answers there, or nobody who knows the question; names the address.
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
    except (OSError, HTTPException, ValueError) as error:
        problem = f"{error}{_scheme_hint(address, error)}"
    raise ConfigError(f"no status from {printable(address)}: {printable(problem)}", "--url")


def _context(address: str, certificate: str | None) -> ssl.SSLContext | None:
    if not address.startswith("https://"):
        return None
    if certificate is None:
        return ssl.create_default_context()
    # Imported late: few ask by TLS, and this brings asyncio.
    from kstash.observe.asking import trusting

    try:
        context = trusting(certificate)
    except OSError as error:
        raise ValueError(f"http_tls_certificate {certificate}: {error}") from error
    if address.startswith(OWN):
        # It is for the name that others ask for, and seldom for this one.
        context.check_hostname = False
    return context


def _hint(reason: object) -> str:
    if getattr(reason, "verify_code", None) not in UNKNOWN_ISSUER_CODES:
        return ""
    return ": nobody whom this machine trusts signed it; give its file in SSL_CERT_FILE"


def _scheme_hint(address: str, reason: object) -> str:
    """What a port of the other scheme does: one for HTTPS hangs up, one for HTTP speaks no TLS."""
    if address.startswith("http://") and isinstance(reason, ConnectionResetError):
        return f": a port with a certificate hangs up so; try https://{address[len('http://') :]}"
    if getattr(reason, "reason", None) in NO_TLS_REASONS:
        return f": a port without a certificate answers so; try http://{address[len('https://') :]}"
    return ""


# -- what is shown -------------------------------------------------------------------------------


def drawn(answer: Json, problem: str | None) -> Group:
    """The whole picture.

    Args:
        answer: of `GET /workers`.
        problem: why there is no newer one.
    """
    entries = [entry for entry in answer["workers"] if isinstance(entry, dict)]
    statuses = [entry["status"] for entry in entries if entry.get("status")]
    parts: list[Any] = [_head(statuses, len(entries)), _workers(entries)]
    tasks = [(status, task) for status in statuses for task in status.get("tasks", ())]
    if tasks:
        parts += [Text(), _tasks(tasks)]
    parts += _latest(statuses)
    waits = dict.fromkeys(_text(s["waiting_for"]) for s in statuses if s.get("waiting_for"))
    parts[1:1] = [Text(text, "bold red") for text in waits]
    if problem is not None:
        parts += [Text(), Text(problem, "bold red")]
    return Group(*parts)


def _head(statuses: list[Json], count: int) -> Text:
    first = statuses[0] if statuses else {}
    words = [_text(first.get("application_id", "?")), _text(first.get("guarantee", ""))]
    words += [f"kstash {_text(first.get('kstash', ''))}", f"{len(statuses)} of {count} workers"]
    return Text("  ".join(word for word in words if word), "bold")


def _workers(entries: list[Json]) -> Table:
    table = _table(
        "worker", "state", "up", "live", "in/s", "out/s", "latency", "lag", "lineage", "memory"
    )
    for entry in entries:
        status = entry.get("status")
        if not status:
            reason = Text(_text(entry.get("error") or "not reachable"), "bold red")
            table.add_row(_text(entry.get("address", "?")), reason)
            continue
        tasks = status.get("tasks", ())
        live = sum(task.get("state") == "live" for task in tasks)
        last = (status.get("history") or [{}])[-1]
        lags = [task["lag_records"] for task in tasks if task.get("lag_records") is not None]
        state = _text(status.get("state", ""))
        table.add_row(
            _text(status.get("worker", "?")),
            Text(state, STYLES.get(state, "bold red")),
            _duration(status.get("uptime_seconds")),
            f"{live}/{len(tasks)}",
            _number(last.get("records_in_per_second")),
            _number(last.get("records_out_per_second")),
            _milliseconds(last.get("latency_seconds")),
            _number(sum(lags)) if lags else "-",
            _size(last.get("lineage_unacked_bytes")),
            _size(last.get("state_bytes")),
        )
    return table


def _tasks(tasks: list[tuple[Json, Json]]) -> Group:
    # What is not live first, then what is furthest behind.
    tasks = sorted(
        tasks, key=lambda pair: (pair[1].get("state") == "live", -(pair[1].get("lag_records") or 0))
    )
    table = _table("task", "worker", "state", "position", "lag", "behind", "checkpoint")
    for status, task in tasks[:TASKS_SHOWN]:
        state = _text(task.get("state", ""))
        marks = {mark.get("task"): mark for mark in status.get("checkpoints", ())}
        mark = marks.get(task.get("name"), {})
        position, end = task.get("position", 0), task.get("replay_end", 0)
        is_replaying = state != "live" and end > position
        table.add_row(
            _text(task.get("name", "?")),
            _text(status.get("worker", "?")),
            Text(state, STYLES.get(state, "bold red")),
            f"{position:,} of {end:,}" if is_replaying else _number(position),
            _number(task.get("lag_records")),
            _duration(task.get("lag_seconds")),
            _duration(mark.get("age_seconds")),
        )
    rest = len(tasks) - TASKS_SHOWN
    return Group(table, Text(f"and {rest} more tasks", "dim")) if rest > 0 else Group(table)


def _latest(statuses: list[Json]) -> list[Text]:
    recoveries = _newest(statuses, "recoveries", "ended")
    lines = [
        Text(
            f"{_clock(item.get('ended'))}  task group {_text(item.get('group'))} recovered in "
            f"{_duration(item.get('seconds'))}, {_number(item.get('replayed'))} replayed"
        )
        for item in recoveries
    ]
    lines += [Text(line, "yellow") for line in _warnings(statuses)]
    return [Text(), *lines] if lines else []


def _warnings(statuses: list[Json]) -> list[str]:
    """The newest ones, what several workers say as one, with the names of who says it."""
    said: dict[str, tuple[float, list[str]]] = {}
    for status in statuses:
        worker = _text(status.get("worker", "?"))
        for item in status.get("errors", ()):
            words = [_text(item[name]) for name in ("event", "error", "place") if item.get(name)]
            moment, workers = said.get(": ".join(words), (0.0, []))
            if worker not in workers:
                workers.append(worker)
            said[": ".join(words)] = max(moment, item.get("time") or 0.0), workers
    newest = sorted(said.items(), key=lambda pair: pair[1][0])[-LATEST:]
    return [f"{_clock(at)}  {', '.join(workers)}: {words}" for words, (at, workers) in newest]


def _newest(statuses: list[Json], name: str, moment: str) -> list[Json]:
    found = [item for status in statuses for item in status.get(name, ())]
    return sorted(found, key=lambda item: item.get(moment) or 0)[-LATEST:]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        left = column in ("worker", "task", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def _text(value: object) -> str:
    return printable(str(value))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _size(count: float | None) -> str:
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _clock(moment: float | None) -> str:
    return "-" if moment is None else time.strftime("%H:%M:%S", time.localtime(moment))
