"""HTTP, probes, status and logs, over real sockets and no Kafka."""

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

import kstash
from kstash import App
from kstash.errors import ConfigError
from kstash.observe import Observer, configure_logs, connections, history
from kstash.observe.observer import STATUS_INTERVAL_S
from kstash.ports.status import TaskStatus, WorkerStatus
from kstash.settings.config import Config
from kstash.settings.derived import POLL_INTERVAL_MS
from kstash.topology.model import Topology

TASK = TaskStatus(
    name="words_0",
    state="live",
    position=1_234_567,
    replay_end=1_000,
    checkpointed_position=1_200_000,
    lag=42,
    inputs=("sentences/0",),
    stage="words",
    partition=0,
)
LIVE = WorkerStatus("word-count", "exactly_once", "live", (TASK,))


def _topology() -> Topology:
    app = App("word-count")
    (
        app.stream("sentences", value=kstash.text)
        .key_by(len, key=kstash.int_text)
        .count("lengths")
        .to("counts", key=kstash.int_text, value=kstash.int_text)
    )
    return app.topology()


TOPOLOGY = _topology()


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
    with Observer(config, TOPOLOGY, monotonic=clock) as made:
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


def verdict(observer: Observer, path: str) -> tuple[int, list[str]]:
    """Code and reasons of a probe."""
    code, content_type, text = get(observer, path)
    assert content_type == "application/json"
    found = json.loads(text)
    assert found["ok"] == (code == 200)
    return code, found["reasons"]


def test_ready_only_when_all_tasks_are_live(observer: Observer, clock: FakeTime) -> None:
    """`/readyz` is 503 with reasons until the worker and each of its tasks is live."""
    assert verdict(observer, "/readyz") == (503, ["the worker is starting"])
    recovering = replace(TASK, name="words_1", state="recovering")
    show(observer, clock, replace(LIVE, state="recovering", tasks=(TASK, recovering)))
    reasons = ["the worker is recovering", "task words_1 is recovering"]
    assert verdict(observer, "/readyz") == (503, reasons)
    show(observer, clock, LIVE)
    assert verdict(observer, "/readyz") == (200, [])
    show(observer, clock, replace(LIVE, state="stopping"))
    assert verdict(observer, "/readyz") == (503, ["the worker is stopping"])


def test_a_loop_that_stands_still_is_not_alive(observer: Observer, clock: FakeTime) -> None:
    """`/livez` is 200 while the loop turns; a stuck one is neither alive nor ready."""
    show(observer, clock, LIVE)
    clock.now += POLL_INTERVAL_MS / 1000
    assert verdict(observer, "/livez") == (200, [])
    clock.now += 5
    reasons = ["the loop has not turned for 305 s"]
    assert verdict(observer, "/livez") == (503, reasons)
    assert verdict(observer, "/readyz") == (503, reasons)
    show(observer, clock, LIVE)
    assert verdict(observer, "/livez") == (200, [])
    clock.now += POLL_INTERVAL_MS / 1000 + 5
    observer.beat()
    assert verdict(observer, "/livez") == (200, []), "within a turn that takes long"


def test_metrics_say_how_long_the_loop_has_stood(observer: Observer, clock: FakeTime) -> None:
    """Also when it cannot say so itself; a turn begins the time anew."""
    observer.show(lambda: LIVE)
    clock.now += 77
    assert "kstash_loop_stalled_seconds 77.0\n" in get(observer, "/metrics")[2]
    observer.show(lambda: LIVE)
    assert "kstash_loop_stalled_seconds 0.0\n" in get(observer, "/metrics")[2]


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


def status_of(observer: Observer) -> dict[str, Any]:
    """What `/status` says."""
    code, content_type, text = get(observer, "/status")
    assert (code, content_type) == (200, "application/json")
    found: dict[str, Any] = json.loads(text)
    return found


def test_status_has_what_the_loop_left(observer: Observer, clock: FakeTime) -> None:
    """Who it is, its tasks, its topics."""
    show(observer, clock, LIVE)
    found = status_of(observer)
    assert (found["application_id"], found["state"]) == ("word-count", "live")
    assert (found["guarantee"], found["kstash"]) == ("exactly_once", kstash.__version__)
    (task,) = found["tasks"]
    assert (task["name"], task["stage"], task["partition"]) == ("words_0", "words", 0)
    assert (task["position"], task["lag_records"]) == (1_234_567, 42)
    first, second = (stage.name for stage in TOPOLOGY.stages)
    assert [(edge["from"], edge["to"], edge["kind"]) for edge in found["edges"]] == [
        (None, first, "narrow"),
        (first, second, "wide"),
        (second, None, "narrow"),
    ]
    assert found["uptime_seconds"] == pytest.approx(clock.now - 100)


def test_history_is_bounded_and_says_rates(observer: Observer, clock: FakeTime) -> None:
    """A point every two seconds, as many as are kept."""
    for _ in range(history.POINTS_MAX + 5):
        observer.metrics.count("records_in", 20, stage="words")
        observer.metrics.count("records_out", 10, stage="words")
        observer.metrics.observe("end_to_end_seconds", 0.25, stage="words")
        clock.now += history.POINT_INTERVAL_S - STATUS_INTERVAL_S
        show(observer, clock, LIVE)
    points = status_of(observer)["history"]
    assert len(points) == history.POINTS_MAX
    assert points[-1]["records_in_per_second"] == pytest.approx(10)
    assert points[-1]["records_out_per_second"] == pytest.approx(5)
    assert points[-1]["latency_seconds"] == pytest.approx(0.25)
    clock.now += history.POINT_INTERVAL_S
    show(observer, clock, LIVE)
    assert status_of(observer)["history"][-1]["latency_seconds"] is None


def test_errors_of_the_log_are_kept_with_their_place(observer: Observer) -> None:
    """The newest warnings and errors, where they say so with operator and record; no other line."""
    log = structlog.get_logger("kstash.group")
    log.info("all is well")
    for number in range(history.ERRORS_MAX):
        log.warning("task group starts over", group=number, reason="fenced")
    log.error(
        "user code failed",
        operator="map",
        topic="in",
        partition=1,
        offset=7,
        exc_info=KeyError("x"),
    )
    found = status_of(observer)["errors"]
    assert len(found) == history.ERRORS_MAX
    assert (found[0]["place"], found[0]["error"]) == ("task group 1", "fenced")
    assert (found[-1]["event"], found[-1]["logger"]) == ("user code failed", "kstash.group")
    assert (found[-1]["place"], found[-1]["error"]) == ("map at in/1/7", "KeyError: 'x'")


def test_the_topology_is_shown(observer: Observer) -> None:
    """`/topology` as `describe("json")` has it."""
    assert get(observer, "/topology")[2] == TOPOLOGY.describe("json")


def test_settings_are_shown_with_their_source(
    logs: None,  # noqa: ARG001 - for its effect
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`/config` has each setting, those of the client one by one, and no secret."""
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD", "geheim")
    monkeypatch.setenv("KSTASH_HTTP_TOKEN", "geheim-und-lang-genug")
    config = Config.load(application_id="word-count", checkpoint_store="file:///data")
    with Observer(config, TOPOLOGY) as made:
        made.serve(0)
        assert get(made, "/config")[0] == 401
        request = urllib.request.Request(
            f"http://127.0.0.1:{made.http_port}/config",
            headers={"authorization": "Bearer geheim-und-lang-genug"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read().decode()
    found = {entry["name"]: entry for entry in json.loads(text)["settings"]}
    assert {*Config.model_fields, "kafka.sasl.password"} - set(found) == {"kafka"}
    assert found["checkpoint_store"]["source"] == "code"
    assert found["http_port"] == {"name": "http_port", "value": 0, "source": "default", "place": ""}
    password = found["kafka.sasl.password"]
    assert (password["value"], password["place"]) == ("***", "KSTASH_KAFKA__SASL_PASSWORD")
    assert "geheim" not in text


def test_names_come_from_the_settings(clock: FakeTime, logs: None) -> None:  # noqa: ARG001 - for its effect
    """`http_hosts_allowed` is what requests are compared with."""
    config = Config.load(application_id="a", http_hosts_allowed="*.example.com")
    with Observer(config, TOPOLOGY, monotonic=clock) as made:
        made.serve(0)
        assert get(made, "/livez", "a.example.com")[0] == 200
        assert get(made, "/livez", "a.example.org")[0] == 421


def test_unknown_path_is_404(observer: Observer) -> None:
    """Only what is documented exists."""
    assert get(observer, "/nope")[0] == 404


def test_busy_port_names_setting_and_fix() -> None:
    """A second worker on one port is refused when it starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = Config.load(application_id="a", http_port=port)
        with pytest.raises(ConfigError, match=rf"http_port {port}.*in use.*set another") as caught:
            Observer(config, TOPOLOGY).__enter__()
        assert caught.value.setting == "http_port"


def test_foreign_address_names_setting(logs: None) -> None:  # noqa: ARG001 - for its effect
    """An address that is not this machine's is refused when it starts."""
    config = Config.load(application_id="a", http_host="203.0.113.1", http_port=9)
    with pytest.raises(ConfigError, match=r"http_host '203\.0\.113\.1'"):
        Observer(config, TOPOLOGY).__enter__()


def test_close_frees_the_port_at_once(logs: None) -> None:  # noqa: ARG001 - for its effect
    """After the worker stopped, its successor listens on the same port."""
    config = Config.load(application_id="a")
    with Observer(config, TOPOLOGY) as first:
        first.serve(0)
        port = first.http_port
        get(first, "/livez")
    assert first.http_port is None
    with Observer(Config.load(application_id="a", http_port=port), TOPOLOGY) as second:
        assert get(second, "/livez")[0] == 200


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
        assert get(observer, "/livez")[0] == 200
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
