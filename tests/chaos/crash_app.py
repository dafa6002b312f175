"""The application of the fail-point tests, and the process that its workers are forked from.

Two topics are merged, spread by key twice, and folded into one chain of hashes for each key; each
step goes through an internal topic into a second chain for each third of the keys, and that into
the sinks. So a crash anywhere shows: every output depends on all inputs of its third before it, in
their order.

    python -m tests.chaos.crash_app

reads one JSON object a line (`Life`) and forks a worker for each: hundreds of short lives would
else spend their time on imports. It answers `pid NAME NUMBER`, `ready NAME` and `exit NAME CODE`,
and ends all of them when its input ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import kstash
from kstash.failpoints import arm

State = dict[str, Any]
GROUPS = 3
CHECK_INTERVAL_S = 0.02
"""How often the process checks whether workers have ended."""


def new() -> State:
    """The beginning of a chain."""
    return {"count": 0, "hash": "", "last": ""}


def digest(before: str, what: str) -> str:
    """One step of a chain."""
    return hashlib.sha256(f"{before} {what}".encode()).hexdigest()[:16]


def follow(state: State, value: str) -> State:
    """One step of a key's chain over both inputs."""
    return {"count": state["count"] + 1, "hash": digest(state["hash"], value), "last": value}


def follow_all(state: State, step: State) -> State:
    """One step of the chain of a third of the keys, over the steps of the keys' chains."""
    return {"count": state["count"] + 1, "hash": digest(state["hash"], step["hash"]), "last": step}


def third_of(step: State) -> str:
    """The third that a key belongs to; values begin with their key."""
    return f"third-{int(step['last'].split()[0]) % GROUPS}"


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a worker.

    Attributes:
        name: names it in the answers; used once.
        log: file that its standard output and error are appended to.
        fail_point: where it dies; None: nowhere.
        until: as `App.run` takes it.
        inputs: both input topics.
        sinks: (topic, delivery) of each sink.
        settings: of the application.
    """

    name: str
    log: str
    fail_point: str | None
    until: Literal["end"] | None
    inputs: tuple[str, str]
    sinks: tuple[tuple[str, kstash.Delivery], ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def build(life: Life) -> kstash.App:
    """Declare the program."""
    app = kstash.App(**life.settings)
    left, right = (app.stream(t, key=kstash.text, value=kstash.text) for t in life.inputs)
    thirds = (
        left.merge(right)
        .repartition("spread")
        .map_values(str)
        .repartition("again", value=kstash.text)
        .aggregate("keys", initial=new, function=follow, value=kstash.json)
        .key_by(third_of, key=kstash.text, value=kstash.json)
        .aggregate("thirds", initial=new, function=follow_all, value=kstash.json)
    )
    for topic, delivery in life.sinks:
        thirds.to(topic, delivery=delivery)
    return app


def say(answers: int, line: str) -> None:
    """Answer; lines are short, so those of several processes do not mix."""
    os.write(answers, f"{line}\n".encode())


def live(life: Life, answers: int) -> int:
    """Be the worker; returns its exit code."""
    log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        arm(life.fail_point)
        build(life).run(until=life.until, on_ready=lambda: say(answers, f"ready {life.name}"))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def fork(life: Life, answers: int) -> int:
    """Fork a worker; returns its process id."""
    pid = os.fork()
    if pid:
        say(answers, f"pid {life.name} {pid}")
        return pid
    code = 1
    try:
        os.close(0)
        code = live(life, answers)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Fork the workers that are asked for, and report how each ends."""
    answers = os.dup(1)
    names: dict[int, str] = {}
    asked = b""
    while True:
        if select.select([0], [], [], CHECK_INTERVAL_S)[0]:
            read = os.read(0, 1 << 16)
            if not read:
                break
            *lines, asked = (asked + read).split(b"\n")
            for line in lines:
                life = Life(**json.loads(line))
                names[fork(life, answers)] = life.name
        while names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            code = os.waitstatus_to_exitcode(status)
            say(answers, f"exit {names.pop(pid)} {code}")
    for pid in names:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
