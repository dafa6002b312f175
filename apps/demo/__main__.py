"""`python -m kstash.apps.demo`: count a book's words, kill the worker, check every count."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from kstash.broker import DevBroker
from kstash.broker.dev_broker import START_TIMEOUT_S

from .screen import Screen
from .story import Demo, DemoFailedError

DEMO_S = 60
DEMO_S_MIN = 20
PICTURE = Path("kstash-demo.svg")
HINT = (
    "the page of an application of your own: kstash run MODULE:APP --set http_port=8080, then "
    "http://127.0.0.1:8080/"
)
OVERHEAD_S = 12  # broker and first join before the book, drain and check after it


def main() -> int:
    """Run the demo in a temporary folder; return its exit code."""
    demo_s = max(float(os.environ.get("DEMO_SECONDS", DEMO_S)), DEMO_S_MIN)
    wait_s = float(os.environ.get("DEMO_WAIT_SECONDS", START_TIMEOUT_S))
    screen = Screen()
    started_at = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="kstash-demo-") as name:
            folder = Path(name)
            screen.say("starting a real Apache Kafka on this machine ...", "dim")
            with DevBroker(start_timeout_s=wait_s) as broker:
                demo = Demo(
                    broker.bootstrap_servers,
                    folder=folder,
                    screen=screen,
                    play_s=demo_s - OVERHEAD_S,
                )
                verdict, at_once = demo.run()
    except KeyboardInterrupt:
        screen.say("interrupted; everything that was started has been stopped", "yellow")
        return 130
    except DemoFailedError as error:
        screen.say(f"the demo failed: {error}", "bold red")
        return 1
    is_right = verdict.is_exactly_once and at_once.is_exactly_once
    seen = "each count once, too" if at_once.is_exactly_once else str(at_once)
    screen.say(f"kstash's reader, which does not wait for commits, saw: {seen}", "dim")
    screen.say(str(verdict), "bold green" if is_right else "bold red")
    _leave_picture(screen)
    screen.say(f"done in {time.monotonic() - started_at:.0f} s", "dim")
    return 0 if is_right else 1


def _leave_picture(screen: Screen) -> None:
    try:
        screen.save(PICTURE)
        screen.say(f"a picture of it: {PICTURE.absolute()}", "dim")
    except OSError as error:
        screen.say(f"no picture of it, {PICTURE.absolute()}: {error.strerror}", "dim")
    screen.say(HINT, "dim")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # SIGTERM and a closed terminal clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    sys.exit(main())
