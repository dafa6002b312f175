"""What a user's code raises, whatever it is, and what is shown of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog

import kstash
from kstash import App, KeyedStream, KstashError
from kstash.errors import OperatorError, ProcessorError, SerdeError
from kstash.operators.columns import call_each
from kstash.process import launch, worker_loop
from kstash.testing import TestDriver

HERE = Path(__file__).name


def refuse(error: Exception) -> None:
    """No record is skipped."""
    raise error


class Leaving(BaseException):
    """Not an `Exception`: nobody who handles errors catches it."""


def leave(*_: Any) -> Any:
    """What a program does that thinks it is done."""
    return sys.exit(0)


def raise_leaving(*_: Any) -> Any:
    """The same by an exception of its own."""
    raise Leaving


def leave_later(value: Any) -> Iterator[Any]:
    """Leaves as its values are taken."""
    yield value
    sys.exit(0)


class Sized:
    """An iterable that says its length, and leaves as it is taken."""

    def __len__(self) -> int:
        """One, so it says."""
        return 1

    def __iter__(self) -> Iterator[Any]:
        """Leave."""
        sys.exit(0)


class Unsized:
    """An iterable that leaves as it is asked for its length."""

    def __len__(self) -> int:
        """Leave."""
        sys.exit(0)

    def __iter__(self) -> Iterator[Any]:
        """Nothing is in it."""
        return iter(())


class Number:
    """A value that leaves as it is added."""

    def __radd__(self, _: Any) -> Any:
        """Leave."""
        sys.exit(0)


numbers: kstash.Serde[Any] = kstash.Serde("numbers", lambda _: b"", lambda _: Number())
leaving: kstash.Serde[Any] = kstash.Serde("leaving", leave, leave)
half: kstash.Serde[Any] = kstash.Serde("half", lambda _: b"", leave)

E = TypeVar("E", OperatorError, SerdeError)
Build = Callable[[KeyedStream[Any, Any]], object]
OPERATORS: dict[str, Build] = {
    "map": lambda s: s.map(leave).to("out", value=kstash.text),
    "its own exception": lambda s: s.map(raise_leaving).to("out", value=kstash.text),
    "filter": lambda s: s.filter(leave).to("out"),
    "split": lambda s: s.split(leave)[0].to("out"),
    "peek": lambda s: s.peek(leave).to("out"),
    "generator": lambda s: s.flat_map(leave_later).to("out", value=kstash.text),
    "iterable": lambda s: s.flat_map(lambda _: Sized()).to("out", value=kstash.text),
    "length": lambda s: s.flat_map(lambda _: Unsized()).to("out", value=kstash.text),
    "key_by": lambda s: s.key_by(leave, key=kstash.text).to("out"),
    "aggregate": lambda s: s.aggregate("a", dict, leave, value=kstash.json).to("out"),
    "initial": lambda s: s.aggregate("a", leave, max, value=kstash.json).to("out"),
    "sum": lambda s: s.map_values(lambda _: Number()).sum("a").to("out"),
}
SERDES: dict[str, Build] = {
    "sink": lambda s: s.to("out", value=leaving),
    "state": lambda s: s.aggregate("a", dict, lambda *_: {}, value=leaving).to("out"),
    "state given back": lambda s: s.aggregate("a", dict, lambda *_: {}, value=half).to("out"),
}


def failing(build: Build, kind: type[E]) -> E:
    """The error of the second record, whose place it must name."""
    app = App("leaving")
    build(app.stream("in", key=kstash.text, value=kstash.text).filter(lambda v: v != "first"))
    with TestDriver(app, partitions=3) as driver:
        driver.send("in", "first", key="k", partition=2)
        with pytest.raises(kind) as caught:
            driver.send("in", "second", key="k", partition=2)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("in", 2, 1)
    return caught.value


@pytest.mark.parametrize("name", OPERATORS)
def test_a_function_that_leaves_has_failed(name: str) -> None:
    """`sys.exit(0)` would end the worker as if all was done; it is an error with its place."""
    error = failing(OPERATORS[name], OperatorError)
    assert type(error.cause) in (SystemExit, Leaving)
    assert HERE in str(error)


@pytest.mark.parametrize("name", SERDES)
def test_a_serde_that_leaves_has_failed(name: str) -> None:
    """The same of its functions."""
    error = failing(SERDES[name], SerdeError)
    assert "SystemExit: 0" in str(error)


def test_ctrl_c_within_a_function_is_none_of_its_errors() -> None:
    """KeyboardInterrupt is the user at the keyboard."""

    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_each(interrupted, ["a"], "map", refuse)


# --- what is shown ------------------------------------------------------------------------------


def fails(value: str) -> int:
    """A user's function, two frames deep."""
    return int(value)


def shown(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[str]:
    """The lines that Python prints of the error by which `App.run` ends, without this test's."""

    def run_app(*_: Any, **__: Any) -> None:
        act()

    monkeypatch.setattr(launch, "run_app", run_app)
    with pytest.raises(KstashError) as caught:
        App("shown").run()
    return "".join(traceback.format_exception(caught.value)).splitlines()


def test_an_error_of_a_function_shows_the_users_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function's, the call of `run`, and the line; one frame of ours that raises it."""
    lines = shown(monkeypatch, lambda: call_each(fails, ["1", "x"], "map(fails)", refuse))
    files = [Path(line.split('"')[1]) for line in lines if line.startswith('  File "')]
    assert [file.name for file in files] == [HERE, HERE, "app.py"]
    assert "ValueError: invalid literal for int() with base 10: 'x'" in lines
    assert lines[-1] == (
        "kstash.errors.OperatorError: operator 'map(fails)' failed: "
        "ValueError: invalid literal for int() with base 10: 'x'"
    )


def test_another_error_shows_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of ours or of a client's has caused it is for the debug log."""

    def act() -> None:
        try:
            raise RuntimeError("inside")
        except RuntimeError as error:
            raise kstash.errors.KafkaUnavailableError("no broker answers") from error

    lines = shown(monkeypatch, act)
    assert "inside" not in "".join(lines)
    assert sum(line.startswith('  File "') for line in lines) == 2
    assert lines[-1] == "kstash.errors.KafkaUnavailableError: no broker answers"


def test_an_error_of_open_shows_the_line_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a function does, and without frames of ours."""

    def act() -> None:
        try:
            fails("x")
        except ValueError as cause:
            raise ProcessorError("process(p)", "Fails.open", cause=cause) from cause

    text = "".join(shown(monkeypatch, act))
    assert "in fails" in text
    assert "failed in Fails.open(), which is given no record: ValueError" in text


def test_the_log_says_that_open_failed_and_names_no_record() -> None:
    """Nor a way to pass one over."""
    error = ProcessorError("process(p)", "Fails.open", cause=ValueError("no"))
    with structlog.testing.capture_logs() as logs:
        worker_loop._report_processor_error(error)
    (entry,) = logs
    assert (entry["operator"], entry["method"]) == ("process(p)", "Fails.open")
    assert not {"topic", "offset", "skip_records"} & entry.keys()
    assert error.is_logged


def test_all_frames_are_in_the_debug_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever hunts an error of kstash."""
    with structlog.testing.capture_logs() as logs:
        shown(monkeypatch, lambda: call_each(fails, ["x"], "map(fails)", refuse))
    [entry] = [entry for entry in logs if entry["log_level"] == "debug"]
    assert isinstance(entry["exc_info"], OperatorError)


# --- the driver ---------------------------------------------------------------------------------


@pytest.fixture
def orders() -> App:
    """Reads JSON."""
    app = App("orders")
    app.stream("orders", key=kstash.int_text, value=kstash.json).to("out")
    return app


def test_the_driver_sends_bytes_that_no_serde_makes(orders: App) -> None:
    """Bad JSON is an error with the place of its record; good bytes go through."""
    with TestDriver(orders, partitions=2) as driver:
        driver.send_raw("orders", b'{"a": 1}', b"7", partition=1)
        [record] = driver.read("out")
        assert (record.key, record.value) == (7, {"a": 1})
        with pytest.raises(SerdeError, match="cannot deserialize a value") as caught:
            driver.send_raw("orders", b"{", b"7", partition=1)
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("orders", 1, 1)


def test_the_driver_puts_raw_keys_where_kafka_does(orders: App) -> None:
    """The partition is that of the key's bytes, as for `send`."""
    with TestDriver(orders, partitions=5) as driver:
        for key in range(20):
            driver.send("orders", 1, key)
            driver.send_raw("orders", b"1", b"%d" % key)
        records = driver.read("out")
        assert len(records) == 40
        assert len({(record.key, record.partition) for record in records}) == 20


def test_the_driver_takes_bytes_only_as_raw(orders: App) -> None:
    """Text would be encoded by nobody."""
    with TestDriver(orders) as driver:
        with pytest.raises(kstash.ConfigError, match="send_raw takes bytes as value, not '1'"):
            driver.send_raw("orders", "1")  # type: ignore[arg-type]
        with pytest.raises(kstash.ConfigError, match="takes bytes as key"):
            driver.send_raw("orders", b"1", 7)  # type: ignore[arg-type]
        with pytest.raises(kstash.ConfigError, match="no input topic 'other'"):
            driver.send_raw("other", b"1")


def test_the_driver_prints_nothing(orders: App, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is the test's; on standard error nothing is for debugging."""
    with TestDriver(orders) as driver:
        driver.send("orders", 1, 1)
        driver.crash()
        driver.recover()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "debug" not in printed.err
    assert "task group live" in printed.err


def test_the_driver_leaves_logs_as_they_were_set(orders: App) -> None:
    """Who has configured structlog sees what is logged as before."""
    with structlog.testing.capture_logs():
        structlog.configure(wrapper_class=structlog.BoundLogger)
        TestDriver(orders).close()
        assert structlog.get_config()["wrapper_class"] is structlog.BoundLogger
