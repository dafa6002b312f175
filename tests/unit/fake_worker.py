"""A program for the supervisor's tests: a worker without Kafka, which does what it is told.

    fake_worker.py FOLDER [INDEX:BEHAVIOUR ...]

Each life notes its process id in `FOLDER/<index>`, and before in `FOLDER/standby` if it stands by
at first. Behaviours: `run` (the default: until SIGTERM),
`end` (exit code 0 at once), `fenced`, `fails` (with words on standard error),
`fails-first` (its first life; then `end`), `stubborn` (ignores SIGTERM), `spare` (runs, and is
never ready), `mute` (closes its standard error), `refused` (ends of what a restart does not mend),
`refused-later` (the same when it was ready), `json` (runs, and writes a line of JSON, and some
that look like it).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from kstash.errors import ConfigError
from kstash.process.seat import STANDBY, Seat, reporting_failures

GROUPS = 2


def main() -> None:
    """Behave."""
    place = Seat.of_this_process("fake")
    assert place is not None
    folder = Path(sys.argv[1])
    if place.index == STANDBY:
        (folder / "standby").write_text(str(os.getpid()))
        place = place.wait()
    behaviours = dict(word.split(":") for word in sys.argv[2:])
    behaviour = behaviours.get(str(place.index), "run")
    tell_ready = place.join()
    signal.signal(
        signal.SIGTERM,
        signal.SIG_IGN if behaviour == "stubborn" else lambda *_: sys.exit(0),
    )
    with (folder / str(place.index)).open("a") as lives:
        lives.write(f"{os.getpid()}\n")
    is_first = len((folder / str(place.index)).read_text().split()) == 1
    print(f"this is {place.index}", file=sys.stderr, flush=True)
    if behaviour == "json":
        print('{"event": "mine",   "level": "info"}\n[1]\n{"event": ', file=sys.stderr, flush=True)
    if behaviour == "fails" or (behaviour == "fails-first" and is_first):
        sys.exit("it cannot work\nbecause of this")
    if behaviour == "refused":
        _refuse()
    if behaviour == "fenced":
        sys.exit(3)
    if behaviour != "spare":
        tell_ready(GROUPS)
    if behaviour == "refused-later":
        _refuse()
    if behaviour == "mute":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while behaviour not in ("end", "fails-first"):
        signal.pause()


@reporting_failures()
def _refuse() -> None:
    raise ConfigError("setting x is wrong:\n  é " + "y" * 20_000, "x")


if __name__ == "__main__":
    main()
