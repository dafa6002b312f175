"""The loop of a worker in this process, until it is stopped, is done, or fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

import structlog

from kstash.errors import (
    KstashError,
    MemberFencedError,
    OperatorError,
    ProcessorError,
    SerdeError,
)
from kstash.observe import Observer
from kstash.ports.state import FinalState
from kstash.process.open_files import OpenFiles
from kstash.process.stopping import Stop
from kstash.process.supervisor import EXIT_FENCED
from kstash.process.tracebacks import with_user_frames
from kstash.runtime.worker.final_state import GroupsFinalState
from kstash.runtime.worker.worker import Worker
from kstash.settings.config import Config
from kstash.startup.members import refuse_foreign_members
from kstash.state import RocksBackend
from kstash.topology.model import Topology

log = structlog.get_logger("kstash")

STEP_S = 0.1
"""Longest turn of the loop, so that signals are seen soon."""

MEMORY_INTERVAL_S = 1.0
"""How often the size of the state in memory is reported."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is run in this process.

    Attributes:
        topology: of the application.
        config: its settings.
        until: when a bounded run is over.
        closes_windows: whether open windows close there.
        stop: is set when the run is to stop.
        on_end: gets the state after a bounded run.
        http_socket: where a supervised worker answers HTTP.
    """

    topology: Topology
    config: Config
    until: Literal["end", "drain"] | None
    _: KW_ONLY
    closes_windows: bool
    stop: Stop
    on_end: Callable[[FinalState], None] | None
    http_socket: Path | None = None


def _check_members_again(worker: Worker, program: str) -> None:
    """Check the members once more as one of them: another may have started at the same moment."""

    def checked(_: None, error: Exception | None) -> None:
        if error is not None:
            raise error

    # In a thread: a broker that does not answer must not hold up the loop.
    config = worker.context.config
    worker.context.services.background.submit(
        "ask", lambda _: refuse_foreign_members(config, program, waits=False), checked
    )


def run_loop(
    worker: Worker,
    program: str,
    run: Launch,
    *,
    observer: Observer,
    state: RocksBackend,
    files: OpenFiles,
) -> None:
    """Step the worker; it is closed when this returns or raises.

    Raises:
        KstashError: what stopped the worker; it has been logged.
        SystemExit: with `EXIT_FENCED`, when another process took its membership and kstash has the
            process for itself.
    """
    stop, on_end = run.stop, run.on_end
    is_graceful = is_checked = False
    memory_due = 0.0
    try:
        while not stop.is_set and not worker.is_done:
            worker.step(STEP_S)
            if not is_checked and worker.is_live:
                is_checked = True
                _check_members_again(worker, program)
            observer.show(worker.status)
            if time.monotonic() >= memory_due:
                memory_due = time.monotonic() + MEMORY_INTERVAL_S
                observer.metrics.gauge("state_memory_bytes", state.used_memory_bytes)
                files.check()
        if stop.is_set:
            log.info("stopping")
        elif run.until == "drain":
            log.info("what was in flight is finished")
        else:
            log.info("end of input reached")
        if worker.is_done and on_end is not None:
            on_end(GroupsFinalState(worker.context.layout, worker.ended_groups))
        is_graceful = True
    except MemberFencedError as error:
        log.error("another process took this worker's membership; it stops", reason=str(error))  # noqa: TRY400 - expected, no traceback
        error.is_logged = True
        if stop.is_guest:
            raise
        raise SystemExit(EXIT_FENCED) from error
    except (OperatorError, SerdeError) as error:
        _report_user_error(error)
        raise
    except ProcessorError as error:
        _report_processor_error(error)
        raise
    except KstashError as error:
        # At once: the caller shows the error only after the clients are closed.
        report_error(error)
        raise
    finally:
        worker.close(is_graceful=is_graceful)
    log.info("stopped")


def report_error(error: KstashError) -> None:
    """Log what stopped the worker, once."""
    log.error("the worker stops; nothing is lost", reason=str(error))
    error.is_logged = True


def _report_user_error(error: OperatorError | SerdeError) -> None:
    # Only the cause: the caller may show no more than the message, and frames of kstash would hide
    # the user's.
    log.error(
        "user code failed, the worker stops; nothing is lost",
        operator=error.operator,
        topic=error.topic,
        partition=error.partition,
        offset=error.offset,
        skip_records=error.skip,
        exc_info=with_user_frames(error.cause),
    )
    error.is_logged = True


def _report_processor_error(error: ProcessorError) -> None:
    # As above; there is no record to pass over.
    log.error(
        "user code failed, the worker stops; nothing is lost",
        operator=error.operator,
        method=error.method,
        exc_info=with_user_frames(error.cause),
    )
    error.is_logged = True
