"""HTTP, health, readiness, the status page and logs, over real sockets and no Kafka."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from kstash.config import POLL_INTERVAL_MS, Config
from kstash.errors import ConfigError
from kstash.observe import Observer, configure_logs, connections
from kstash.observe.observer import STATUS_INTERVAL_S
from kstash.observe.page import render_page
from kstash.ports import TaskStatus, WorkerStatus

TASK = TaskStatus(
    name="words_0",
    state="live",
    position=1_234_567,
    replay_end=1_000,
    checkpointed_position=1_200_000,
    lag=42,
    inputs=("sentences/0",),
)
LIVE = WorkerStatus("word-count", "exactly_once", "live", (TASK,))


class FakeTime:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def logs() -> Iterator[None]:
    """Put structlog's settings back afterwards."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> FakeTime:
    """The observer's time."""
    return FakeTime()


@pytest.fixture
def observer(clock: FakeTime, logs: None) -> Iterator[Observer]:  # noqa: ARG001 - for its effect
    """An observer that serves on a free port."""
    config = Config.load(application_id="word-count")
    with Observer(config, monotonic=clock) as made:
        made.serve(0)
        yield made


def get(observer: Observer, path: str, host: str = "localhost") -> tuple[int, str, str]:
    """Status code, content type and text of a GET."""
    url = f"http://127.0.0.1:{observer.http_port}{path}"
    request = urllib.request.Request(url, headers={"host": host})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def show(observer: Observer, clock: FakeTime, status: WorkerStatus) -> None:
    """Let the loop turn once with this status."""
    clock.now += STATUS_INTERVAL_S
    observer.show(lambda: status)


def test_metrics_are_served_in_prometheus_text_format(observer: Observer) -> None:
    """`/metrics` has the right content type and the current values."""
    observer.metrics.count("records_in", 7, stage="words")
    code, content_type, text = get(observer, "/metrics")
    assert code == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert 'kstash_records_in_total{stage="words"} 7.0\n' in text


def test_ready_only_when_all_tasks_are_live(observer: Observer, clock: FakeTime) -> None:
    """`/ready` is 503 with a reason until the worker and each of its tasks is live."""
    assert get(observer, "/ready")[::2] == (503, "starting\n")
    recovering = replace(TASK, name="words_1", state="recovering")
    show(observer, clock, replace(LIVE, state="recovering", tasks=(TASK, recovering)))
    assert get(observer, "/ready")[::2] == (503, "recovering\n")
    show(observer, clock, replace(LIVE, tasks=(TASK, recovering)))
    assert get(observer, "/ready")[::2] == (503, "not live: words_1\n")
    show(observer, clock, LIVE)
    assert get(observer, "/ready")[::2] == (200, "live: 1 tasks\n")
    show(observer, clock, replace(LIVE, state="stopping"))
    assert get(observer, "/ready")[::2] == (503, "stopping\n")


def test_health_is_lost_when_the_loop_stands_still(observer: Observer, clock: FakeTime) -> None:
    """`/health` is 200 while the loop turns; a stuck loop is neither healthy nor ready."""
    show(observer, clock, LIVE)
    clock.now += POLL_INTERVAL_MS / 1000
    assert get(observer, "/health")[::2] == (200, "ok\n")
    clock.now += 5
    assert get(observer, "/health")[::2] == (503, f"the loop has not turned for {305:.0f} s\n")
    assert get(observer, "/ready")[0] == 503
    assert "not responding" in get(observer, "/")[2]
    show(observer, clock, LIVE)
    assert get(observer, "/health")[0] == 200
    clock.now += POLL_INTERVAL_MS / 1000 + 5
    observer.beat()
    assert get(observer, "/health")[0] == 200, "within a turn that takes long"


def test_status_is_asked_for_a_few_times_a_second_only(observer: Observer, clock: FakeTime) -> None:
    """The loop may call `show` at each of thousands of turns a second."""
    asked: list[int] = []

    def status() -> WorkerStatus:
        asked.append(1)
        return LIVE

    for _ in range(1_000):
        clock.now += STATUS_INTERVAL_S / 100
        observer.show(status)
    assert 9 <= len(asked) <= 11


def test_page_shows_tasks_positions_and_lag(observer: Observer, clock: FakeTime) -> None:
    """`/` is HTML with the application's state and a row a task."""
    observer.metrics.count("records_in", 5_000, stage="words")
    show(observer, clock, LIVE)
    code, content_type, text = get(observer, "/")
    assert code == 200
    assert content_type.startswith("text/html")
    for part in ("word-count", "words_0", "1\u2009234\u2009567", ">42<", "sentences/0"):
        assert part in text
    assert "5\u2009000" in text


def test_page_escapes_names() -> None:
    """Names come from users: none of them becomes markup."""
    evil = replace(TASK, name="<script>", inputs=("<b>/0",))
    status = replace(LIVE, application_id="<i>", tasks=(evil,))
    page = render_page(status, lambda _: 0, uptime_s=0, is_stuck=False)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("uptime_s", "text"),
    [(5, "up 5 s"), (65, "up 1 min 5 s"), (7_260, "up 2 h 1 min"), (200_000, "up 2 d 7 h")],
)
def test_page_gives_uptime_in_two_units(uptime_s: float, text: str) -> None:
    """Durations are readable at a glance."""
    assert text in render_page(LIVE, lambda _: 0, uptime_s=uptime_s, is_stuck=False)


def test_page_shows_replay_and_missing_values() -> None:
    """A replaying task says how far it goes; an unknown lag is a dash; no tasks is said."""
    task = replace(TASK, state="recovering", position=10, replay_end=2_000, lag=None)
    page = render_page(
        replace(LIVE, tasks=(task,)), lambda _: 3_000_000_000, uptime_s=1, is_stuck=False
    )
    assert "replaying to 2\u2009000" in page
    assert "&ndash;" in page
    assert "2.8 GiB" in page
    empty = render_page(replace(LIVE, tasks=()), lambda _: 0, uptime_s=1, is_stuck=False)
    assert "no tasks yet" in empty


def test_names_come_from_the_settings(clock: FakeTime, logs: None) -> None:  # noqa: ARG001 - for its effect
    """`http_hosts_allowed` is what requests are compared with."""
    config = Config.load(application_id="a", http_hosts_allowed="*.example.com")
    with Observer(config, monotonic=clock) as made:
        made.serve(0)
        assert get(made, "/health", "a.example.com")[0] == 200
        assert get(made, "/health", "a.example.org")[0] == 421


def test_unknown_path_is_404(observer: Observer) -> None:
    """Only four paths exist."""
    assert get(observer, "/nope")[0] == 404


def test_busy_port_names_setting_and_fix() -> None:
    """A second worker on one port is refused when it starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = Config.load(application_id="a", http_port=port)
        with pytest.raises(ConfigError, match=rf"http_port {port}.*in use.*set another") as caught:
            Observer(config).__enter__()
        assert caught.value.setting == "http_port"


def test_foreign_address_names_setting(logs: None) -> None:  # noqa: ARG001 - for its effect
    """An address that is not this machine's is refused when it starts."""
    config = Config.load(application_id="a", http_host="203.0.113.1", http_port=9)
    with pytest.raises(ConfigError, match=r"http_host '203\.0\.113\.1'"):
        Observer(config).__enter__()


def test_close_frees_the_port_at_once(logs: None) -> None:  # noqa: ARG001 - for its effect
    """After the worker stopped, its successor listens on the same port."""
    config = Config.load(application_id="a")
    with Observer(config) as first:
        first.serve(0)
        port = first.http_port
        get(first, "/health")
    assert first.http_port is None
    with Observer(Config.load(application_id="a", http_port=port)) as second:
        assert get(second, "/health")[0] == 200


def test_json_logs_are_one_object_a_line(
    logs: None,  # noqa: ARG001 - for its effect
    capsys: pytest.CaptureFixture[str],
) -> None:
    """JSON logs go to standard error with time, level, logger and fields, tracebacks inside."""
    log = structlog.get_logger("kstash.test")
    configure_logs("json", "info")
    log.debug("dropped")
    log.info("kept", group=3)
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in captured.err.splitlines()]
    assert [line["event"] for line in lines] == ["kept", "failed"]
    assert lines[0]["group"] == 3
    assert lines[0]["level"] == "info"
    assert lines[0]["logger"] == "kstash.test"
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: inside" in lines[1]["exception"]


def test_console_logs_are_for_people(
    logs: None,  # noqa: ARG001 - for its effect
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Console logs are plain lines without colours off a terminal; the level filters."""
    configure_logs("console", "warning")
    log = structlog.get_logger()
    log.info("dropped")
    log.warning("kept", group=3)
    error = capsys.readouterr().err
    assert "kept" in error
    assert "group=3" in error
    assert "dropped" not in error
    assert "\x1b[" not in error


def test_unknown_level_is_a_programmer_error() -> None:
    """The settings validate levels before."""
    with pytest.raises(AssertionError, match="loud"):
        configure_logs("json", "loud")


# --- connections --------------------------------------------------------------------------------


def connected(observer: Observer) -> socket.socket:
    """A connection that sends nothing."""
    return socket.create_connection(("127.0.0.1", observer.http_port), timeout=10)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection; waits for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_idle_connections_take_no_place(
    monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    """However many connect and send nothing: the oldest are closed, and a probe is answered."""
    monkeypatch.setattr(connections, "REQUEST_S", 3600.0)  # for their number, not for their time
    idle = [connected(observer) for _ in range(connections.CONNECTIONS_MAX + 20)]
    assert all(map(is_closed, idle[:20]))
    for _ in range(3):
        assert get(observer, "/health")[0] == 200
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_a_connection_that_asks_nothing_more_is_closed(
    monkeypatch: pytest.MonkeyPatch, observer: Observer, sent: bytes
) -> None:
    """One that is silent, stops within a request, or keeps its answered request's connection."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    connection = connected(observer)
    connection.sendall(sent)
    while not is_closed(connection):
        pass
    connection.close()


def test_a_request_without_an_end_is_refused(observer: Observer) -> None:
    """A head of more than 16 KiB is an error, and not kept."""
    connection = connected(observer)
    connection.sendall(b"GET / HTTP/1.1\r\n" + b"x-long: " + b"a" * 20_000)
    answer = b""
    while part := connection.recv(4096):
        answer += part
    assert answer.startswith(b"HTTP/1.1 400")
    connection.close()
