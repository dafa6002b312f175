"""The supervisor over a program that uses no Kafka: starts, restarts, gives up, stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kstash.errors import ConfigError, KafkaUnavailableError, WorkerFailedError
from kstash.ports.status import SupervisedWorker
from kstash.process import supervisor as module
from kstash.process.seat import SEAT_VARIABLE, STANDBY, Seat, reporting_failures
from kstash.process.supervisor import Supervisor
from kstash.settings.config import Config

PROGRAM = Path(__file__).parents[1] / "fake_worker.py"
DEADLINE_S = 60.0
"""For processes to start and end on a busy machine; nothing waits this long in a good run."""


class Stop:
    """Asks for an orderly stop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """Ask."""
        self.is_set = True


class Watched(Supervisor):
    """Calls back at every turn, and does not turn for ever."""

    at_turn: Callable[[], None] | None = None

    def _turn(self) -> None:
        super()._turn()
        self.deadline = getattr(self, "deadline", time.monotonic() + DEADLINE_S)
        assert time.monotonic() < self.deadline, "the supervisor did not get there"
        if self.at_turn is not None:
            self.at_turn()


def _config(**settings: object) -> Config:
    return Config.load(application_id="fake", **settings)


def _supervisor(
    folder: Path,
    count: int,
    *behaviours: str,
    is_bounded: bool = False,
    on_ready: Callable[[], None] | None = None,
    on_members: Callable[[Sequence[SupervisedWorker]], None] | None = None,
    **settings: object,
) -> Watched:
    command = [sys.executable, str(PROGRAM), str(folder), *behaviours]
    config = _config(**settings)
    return Watched(
        command, config, count, is_bounded=is_bounded, on_ready=on_ready, on_members=on_members
    )


def _lives(folder: Path, index: int) -> list[int]:
    path = folder / str(index)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_worker_has_a_place_of_its_own() -> None:
    """Name, folder and socket follow from the worker's number; the port is the supervisor's."""
    config = _config(instance_id="host", state_dir="/state", http_port=8000)
    place = Seat(2, 9, "fake", "/state/x")
    mine = place.settings(config)
    assert (mine.instance_id, mine.state_dir, mine.http_port) == ("host-2", "/state/worker-2", 0)
    assert place.http_socket == Path("/state/x/2.sock")
    assert Seat(2, 9, "fake").http_socket is None
    unnamed = Seat(0, 9, "fake").settings(_config())
    assert unnamed.instance_id is not None
    assert unnamed.instance_id.endswith("-0")
    assert unnamed.http_port == 0


def test_place_is_reported_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nobody supervises; a worker of another application is refused."""
    monkeypatch.delenv(SEAT_VARIABLE, raising=False)
    assert Seat.of_this_process("fake") is None
    monkeypatch.setenv(SEAT_VARIABLE, Seat(1, 7, "fake", "/run/x").encode())
    assert Seat.of_this_process("fake") == Seat(1, 7, "fake", "/run/x")
    with pytest.raises(ConfigError, match="'fake', and its program runs 'other'"):
        Seat.of_this_process("other")


def test_who_stands_by_is_woken_to_keep_ready() -> None:
    """As often as asked to; the seat that it is given ends the wait; the link still blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        woken: list[bool] = []

        def wake() -> None:
            woken.append(True)
            if len(woken) == 2:
                ours.sendall(b"3\n")

        place = Seat(STANDBY, theirs.fileno(), "fake").wait(0.001, wake)
        assert place == Seat(3, theirs.fileno(), "fake")
        assert len(woken) == 2
        assert os.get_blocking(theirs.fileno())


def test_impossible_numbers_are_refused() -> None:
    """No worker at all."""
    with pytest.raises(ConfigError, match="workers is 0"):
        Supervisor(["x"], _config(), 0)


def test_all_start_and_stop_in_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two workers get ready, are asked to stop once, and leave nothing; lines have their name."""
    stop = Stop()
    _supervisor(tmp_path, 2, on_ready=stop.set).run(stop)
    lives = [_lives(tmp_path, index) for index in (0, 1)]
    assert [len(one) for one in lives] == [1, 1]
    assert not any(_is_alive(process) for one in lives for process in one)
    shown = capfd.readouterr().err
    assert "worker-0 | this is 0\n" in shown
    assert "worker-1 | this is 1\n" in shown


def test_lines_of_json_stay_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """For machines nothing is put before a line; what was written beside the log becomes one."""
    stop = Stop()
    _supervisor(tmp_path, 1, "0:json", on_ready=stop.set, log_format="json").run(stop)
    shown = capfd.readouterr().err.splitlines()
    assert '{"event": "mine",   "level": "info"}' in shown
    for raw in ("this is 0", "[1]", '{"event": '):
        whose = {"application": "fake", "worker": "worker-0"}
        assert json.dumps({**whose, "event": raw, "logger": "stderr"}) in shown


def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    """Under its own place, while the other one is left alone."""
    stop = Stop()

    def kill() -> None:
        os.kill(_lives(tmp_path, 1)[0], signal.SIGKILL)

    def stop_when_back() -> None:
        stop.is_set = len(_lives(tmp_path, 1)) == 2

    watched = _supervisor(tmp_path, 2, on_ready=kill)
    watched.at_turn = stop_when_back
    watched.run(stop)
    assert (len(_lives(tmp_path, 0)), len(_lives(tmp_path, 1))) == (1, 2)


def test_the_process_that_stands_by_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    """It has started before, is given a seat, and is replaced; none of them is left."""
    stop = Stop()
    standby = tmp_path / "standby"
    stood_by: list[int] = []

    def kill_and_stop() -> None:
        if standby.exists() and standby.read_text() and len(stood_by) < 2:
            stood_by.append(int(standby.read_text()))
            standby.unlink()
            if len(stood_by) == 1:
                os.kill(_lives(tmp_path, 0)[0], signal.SIGKILL)
        stop.is_set = len(stood_by) == 2

    watched = _supervisor(tmp_path, 2)
    watched.at_turn = kill_and_stop
    watched.run(stop)
    assert _lives(tmp_path, 0)[1:] == stood_by[:1]
    assert len(_lives(tmp_path, 1)) == 1
    assert not any(map(_is_alive, stood_by))


def test_one_that_stands_by_and_dies_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death is nobody's loss: after a pause there is another one."""
    monkeypatch.setattr(module, "STANDBY_PAUSE_S", 0.001)
    stop = Stop()
    standby = tmp_path / "standby"
    stood_by: set[int] = set()

    def kill_and_stop() -> None:
        if standby.exists() and standby.read_text():
            stood_by.add(int(standby.read_text()))
            if len(stood_by) == 1:
                standby.unlink()
                os.kill(next(iter(stood_by)), signal.SIGKILL)
        stop.is_set = len(stood_by) == 2

    watched = _supervisor(tmp_path, 1)
    watched.at_turn = kill_and_stop
    watched.run(stop)
    assert len(_lives(tmp_path, 0)) == 1


def test_a_worker_that_dies_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names it, how it ended and what it said last; the others are stopped in order."""
    monkeypatch.setattr(module, "BACKOFF_S", 0.001)
    monkeypatch.setattr(module, "QUICK_LIFE_S", 3600.0)  # a busy machine is slow to start a process
    with pytest.raises(WorkerFailedError) as caught:
        _supervisor(tmp_path, 2, "1:fails").run(Stop())
    assert (caught.value.worker, caught.value.ended_with) == ("worker-1", "exit code 1")
    assert caught.value.lines[-2:] == ("it cannot work", "because of this")
    assert "because of this" in str(caught.value)
    assert len(_lives(tmp_path, 1)) == module.QUICK_DEATHS_MAX
    assert len(_lives(tmp_path, 0)) == 1
    assert not _is_alive(_lives(tmp_path, 0)[0])


@pytest.mark.parametrize("behaviour", ["refused", "refused-later"])
def test_what_a_restart_does_not_mend_ends_all_at_once(
    behaviour: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error says it once, in the words of the worker's; the others are stopped in order."""
    with pytest.raises(WorkerFailedError) as caught:
        _supervisor(tmp_path, 2, f"1:{behaviour}").run(Stop())
    assert (caught.value.worker, caught.value.ended_with) == ("worker-1", "ConfigError")
    message = str(caught.value)
    assert message.startswith("setting x is wrong:\n  é yyy")
    assert len(message) < 17_000, "bounded, so that telling it waits for nobody"
    assert message.endswith(
        "(ConfigError of worker-1: a restart would end with it again, the workers were stopped)"
    )
    assert len(_lives(tmp_path, 1)) == 1
    assert not any(_is_alive(process) for process in _lives(tmp_path, 0))
    captured = capfd.readouterr()
    shown = captured.out + captured.err
    assert re.search("worker stopped .*worker-0", shown)
    assert "Traceback" not in shown
    assert "setting x" not in shown


def test_the_last_words_come_with_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a worker counts also when its end was seen before it."""
    monkeypatch.setattr(Supervisor, "_listen", lambda *_: os.sched_yield())
    with pytest.raises(WorkerFailedError) as caught:
        _supervisor(tmp_path, 1, "0:refused").run(Stop())
    assert caught.value.ended_with == "ConfigError"


def test_whoever_answers_for_the_workers_is_reported_of_them(tmp_path: Path) -> None:
    """Of each with its socket, of restarts, and of those that are over."""
    reported: list[Sequence[SupervisedWorker]] = []
    with pytest.raises(SystemExit):
        _supervisor(
            tmp_path, 2, "0:fenced", "1:fails-first", is_bounded=True, on_members=reported.append
        ).run(Stop())
    assert reported[0] == [
        SupervisedWorker("worker-0", "0.sock", 0, is_over=False),
        SupervisedWorker("worker-1", "1.sock", 0, is_over=False),
    ]
    seen = {member for members in reported for member in members}
    assert SupervisedWorker("worker-0", "0.sock", 0, is_over=True) in seen
    assert SupervisedWorker("worker-1", "1.sock", 1, is_over=False) in seen


PROGRAM_WITH_PORT = """
import sys
import kstash
app = kstash.App("taken", state_dir=sys.argv[1], http_port=int(sys.argv[2]))
app.stream("in").to("out")
app.run(workers=2)
"""


def test_a_program_whose_workers_cannot_start(tmp_path: Path) -> None:
    """As a user sees it: one message with the fix, and exit code 1; no second try."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM_WITH_PORT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, str(program), str(tmp_path), port],
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("is in use by another process: set another http_port") == 1
    assert done.stderr.count("Traceback") == 1, "of the user's own line"
    assert "it is started again" not in done.stderr


def test_an_error_that_lasts_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised as it is; and so is one that a restart may mend, also under a supervisor."""
    monkeypatch.delenv(SEAT_VARIABLE, raising=False)
    with pytest.raises(ConfigError), reporting_failures():
        raise ConfigError("wrong")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setenv(SEAT_VARIABLE, f"1/{theirs.fileno()}/fake")
        with pytest.raises(KafkaUnavailableError), reporting_failures():
            raise KafkaUnavailableError("away")
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def test_a_fenced_worker_is_not_started_again(tmp_path: Path) -> None:
    """The others go on; when none is left the exit code says why."""
    stop = Stop()
    with pytest.raises(SystemExit) as caught:
        _supervisor(tmp_path, 2, "0:fenced", on_ready=stop.set).run(stop)
    assert caught.value.code == module.EXIT_FENCED
    assert (len(_lives(tmp_path, 0)), len(_lives(tmp_path, 1))) == (1, 1)


def test_bounded_run_is_over_when_all_workers_are(tmp_path: Path) -> None:
    """A worker that failed in between is started again, one that is done is not."""
    _supervisor(tmp_path, 3, "0:end", "1:end", "2:fails-first", is_bounded=True).run(Stop())
    assert [len(_lives(tmp_path, index)) for index in range(3)] == [1, 1, 2]


def test_spare_workers_are_not_waited_for(tmp_path: Path) -> None:
    """With two task groups the third worker has nothing to get ready."""
    stop = Stop()
    _supervisor(tmp_path, 3, "1:spare", on_ready=stop.set).run(stop)
    assert stop.is_set


def test_a_worker_that_closes_its_files_costs_nothing(tmp_path: Path) -> None:
    """A closed log is readable for ever; the loop turns no faster for it."""
    stop = Stop()
    turns: list[float] = []

    def count() -> None:
        turns.append(time.monotonic())
        stop.is_set = len(turns) > 20

    watched = _supervisor(
        tmp_path, 1, "0:mute", on_ready=lambda: setattr(watched, "at_turn", count)
    )
    watched.run(stop)
    assert turns[-1] - turns[0] > 20 * module.TURN_S / 2


def test_a_worker_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `shutdown_timeout_ms` and some grace."""
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.3)
    stop = Stop()
    _supervisor(tmp_path, 1, "0:stubborn", on_ready=stop.set, shutdown_timeout_ms=100).run(stop)
    assert not _is_alive(_lives(tmp_path, 0)[0])


def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    """A supervisor that is killed leaves none, not even one that ignores SIGTERM."""
    code = (
        "import sys; from kstash.settings.config import Config\n"
        "from kstash.process.supervisor import *\n"
        "class Stop: is_set = False\n"
        f"command = [sys.executable, {str(PROGRAM)!r}, {str(tmp_path)!r}, '1:stubborn']\n"
        "ready = lambda: print('READY', flush=True)\n"
        "Supervisor(command, Config.load(application_id='fake'), 2, on_ready=ready).run(Stop())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert b"READY\n" in iter(process.stdout.readline, b""), "the supervisor ended"
        workers = [_lives(tmp_path, index)[0] for index in (0, 1)]
        assert all(map(_is_alive, workers))
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        process.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while any(map(_is_running, workers)):
        assert time.monotonic() < deadline, "a worker outlived its supervisor"
        os.sched_yield()


def _is_running(process: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
