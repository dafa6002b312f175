"""How a run is stopped: signals in the main thread, `App.stop` everywhere."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.process import launch
from kstash.process.stopping import Stop, StoppedEarlyError, StopRequest


def send(number: int) -> None:
    """A signal to this process, handled when this returns."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks(number: int) -> None:
    """The handlers of before are there again afterwards."""
    before = signal.getsignal(number)
    request = StopRequest()
    with Stop(request) as stop:
        stop.begin()
        seen = [stop.is_set]
        send(number)
        seen.append(stop.is_set)
    assert seen == [False, True]
    assert request.is_set
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with the code of the signal."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Stop(StopRequest()) as stop:
        stop.begin()
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert codes == [128 + signal.SIGINT]


def test_a_second_ctrl_c_leaves_a_notebook_alive() -> None:
    """Where the process goes on after the run it is a KeyboardInterrupt; SIGTERM still ends it."""
    with Stop(StopRequest(), is_guest=True) as stop:
        stop.begin()
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_after_a_request_is_the_first_one() -> None:
    """Whoever asked by `App.stop` has sent no signal: one does not end the process."""
    request = StopRequest()
    with Stop(request) as stop:
        stop.begin()
        request.is_set = True
        send(signal.SIGINT)
        assert stop.is_set


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_has_not_begun(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be finished, and what is waited for may take long; a second one still ends."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    request = StopRequest()
    with Stop(request):
        with pytest.raises(StoppedEarlyError):
            send(number)
        assert codes == []
        send(number)
    assert codes == [128 + number]
    assert request.is_set


def test_a_signal_within_a_client_is_no_fault_of_the_client() -> None:
    """What is written in C and calls Python turns the error of the handler into one of its own."""

    def ask() -> None:
        try:
            send(signal.SIGTERM)
        except StoppedEarlyError as error:
            raise SystemError("returned a result with an exception set") from error

    with pytest.raises(StoppedEarlyError), Stop(StopRequest()):
        ask()


def test_other_faults_of_a_client_stay_what_they_are() -> None:
    """No signal has caused them."""
    with pytest.raises(SystemError, match="of its own"), Stop(StopRequest()):
        raise SystemError("of its own")


def test_a_run_that_is_stopped_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and no traceback, and it is not over: a program after it must not think so."""

    def check(*_: object) -> None:
        send(signal.SIGINT)

    monkeypatch.setattr(launch, "_run_worker", check)
    monkeypatch.setattr(launch, "configure_logs", lambda *_: None)
    app = kstash.App("early")
    app.stream("in").to("out")
    with capture_logs() as lines:
        assert app.run(until="end") is False
    assert lines[-1]["event"] == "stopped before it had begun"


def test_another_thread_sets_no_handlers() -> None:
    """Python would refuse; the request is heard."""
    request, seen = StopRequest(), []

    def run() -> None:
        with Stop(request) as stop:
            request.is_set = True
            seen.append(stop.is_set)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def _requests(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object] = lambda: None
) -> list[bool]:
    """Whether each run was asked to stop when it began; it does `act` and ends."""
    seen: list[bool] = []

    def run_app(_: object, __: object, request: StopRequest, **___: Any) -> None:
        seen.append(request.is_set)
        act()

    monkeypatch.setattr(launch, "run_app", run_app)
    return seen


def test_app_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run that is under way, or the next one where none is; and no later one."""
    app = kstash.App("stopped")
    seen = _requests(monkeypatch, app.stop)
    app.stop()
    for _ in range(3):
        app.run()
    assert seen == [True, False, False]


def test_only_known_ends_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`END` would be a run without an end to one who means `drain`, and an end to others."""
    seen = _requests(monkeypatch)
    for until in ("END", "drained", True, 5):
        with pytest.raises(kstash.ConfigError, match="until is 'end', 'drain' or None"):
            kstash.App("ends").run(until=until)  # type: ignore[arg-type]
    assert seen == []


def test_workers_are_refused_where_nothing_can_be_executed_again() -> None:
    """Each would run this test session again."""
    app = kstash.App("workers")
    app.stream("in").to("out")
    with pytest.raises(
        kstash.ConfigError, match="each worker executes the program again"
    ) as caught:
        app.run(workers=2)
    assert caught.value.setting == "workers"
