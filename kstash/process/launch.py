"""Runs an application in this process: puts the adapters together, handles signals, exits.

The composition root behind `App.run`: the one place that knows the runtime and its adapters.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import structlog

from kstash.errors import ConfigError, KstashError
from kstash.kafka import KafkaCluster
from kstash.kafka.console import KafkaConsole
from kstash.observe import Observer, endpoint_of, worker_name
from kstash.observe.lines import take_over
from kstash.observe.logs import configure_logs, identify, is_json
from kstash.ports.kafka import TopicInfo
from kstash.ports.state import CheckpointStore, FinalState
from kstash.process.background import Threads
from kstash.process.clock import SystemClock, process_age_s
from kstash.process.garbage import seldom_collecting
from kstash.process.greeting import build_info, greet
from kstash.process.main_program import command, hashing, is_in_event_loop, obstacle, pin_hash_seed
from kstash.process.open_files import OpenFiles, files_needed, raise_limit
from kstash.process.seat import STANDBY, Seat, reporting_failures
from kstash.process.stopping import Stop, StoppedEarlyError, StopRequest
from kstash.process.supervisor import Supervisor
from kstash.process.worker_loop import Launch, report_error, run_loop
from kstash.runtime.worker.worker import Worker
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.startup.continuity import settled
from kstash.startup.members import find_foreign_members, refuse_foreign_members, wait_until_stopped
from kstash.startup.topic_checks import batch_bytes_max
from kstash.startup.topics import check_topics
from kstash.state import RocksBackend
from kstash.stores.objects import open_store
from kstash.stores.topic import CheckpointTopic
from kstash.topology.model import Topology, is_merging, program_of

STANDBY_RENEW_S = 300.0
"""How long a standby process keeps its clients: brokers close connections that are idle for ten
minutes, and clients forget metadata after fifteen."""

log = structlog.get_logger("kstash")


def checkpoint_store(cluster: KafkaCluster, config: Config) -> CheckpointStore | None:
    """The store that the settings name; None: checkpoints stay on this disk.

    Raises:
        ConfigError: the store cannot be opened.
    """
    if config.checkpoint_store == "none" or not derived.guarantee(config).recovers:
        return None
    if config.checkpoint_store == "topic":
        return CheckpointTopic(config, admin=cluster.admin)
    return open_store(config.checkpoint_store, config.application_id)


def _no_workers_here(hindered_by: str) -> ConfigError:
    return ConfigError(
        f"each worker executes the program again, which is not possible here: {hindered_by}. Put "
        "run(workers=...) into a program of its own, or run without workers here",
        "workers",
    )


def _warn_of_the_loop() -> None:
    log.warning(
        "run() holds up the event loop until it returns",
        fix="await asyncio.to_thread(app.run), and app.stop() to end it",
    )


@reporting_failures()
def run_app(
    compile_program: Callable[[], Topology],
    config: Config,
    request: StopRequest,
    *,
    until: Literal["end", "drain"] | None = None,
    closes_windows: bool = False,
    workers: int | None = None,
    on_ready: Callable[[], None] | None = None,
    on_end: Callable[[FinalState], None] | None = None,
) -> bool:
    """Run an application until a request to stop, the end of its input, or an error.

    The program is executed again with a pinned hash seed when it runs with another seed and can be
    executed again; and once for each of several workers.

    `compile_program` returns the topology to run; the other arguments are those of `App.run`.

    Returns:
        Whether a bounded run is over; False when it was stopped before.

    Raises:
        KstashError: what stopped the run; nothing is lost, and a new start continues it.
        SystemExit: with `EXIT_FENCED` when another process took this worker's membership and the
            program is the main one (elsewhere that is a `MemberFencedError`); in a supervised
            worker also after an error that a restart does not mend was reported to the supervisor.
    """
    _check_can_run(config, until)
    topology = compile_program()
    configure_logs(config.log_format, config.log_level)
    seat = Seat.of_this_process(config.application_id)
    hindered_by = obstacle()
    if workers is not None and seat is None and hindered_by is not None:
        raise _no_workers_here(hindered_by)
    if workers is None or seat is not None:
        pin_hash_seed(hindered_by)
    if is_in_event_loop():
        _warn_of_the_loop()
    put_back = take_over(is_guest=hindered_by is not None)
    stop = Stop(request, is_guest=hindered_by is not None)
    run = Launch(topology, config, until, closes_windows=closes_windows, stop=stop, on_end=on_end)
    try:
        with run.stop:
            if seat is not None:
                _run_seat(run, seat)
            elif workers is not None:
                return _supervise(run, workers, on_ready)
            return _run_alone(run, on_ready)
    except StoppedEarlyError:
        log.info("stopped before it had begun")
        if seat is not None:
            raise SystemExit(0) from None
        return False
    except KstashError as error:
        if is_json() and not error.is_logged:
            report_error(error)  # the caller may not show it as JSON
        raise
    finally:
        if hindered_by is not None:
            put_back()


def _check_can_run(config: Config, until: Literal["end", "drain"] | None) -> None:
    if not __debug__:
        raise ConfigError("kstash relies on its assertions: run without python -O")
    if until is not None and not derived.guarantee(config).recovers:
        raise ConfigError(
            "a bounded run needs the lineage topic, which guarantee 'none' does not write: choose "
            "another guarantee, or run without an end",
            "guarantee",
        )


def _supervise(run: Launch, workers: int, on_ready: Callable[[], None] | None) -> bool:
    is_bounded = run.until is not None
    identify(application=run.config.application_id)
    greet(run.config, workers=workers)
    if run.until == "drain":
        _wait_for_stop(run.config)
    with endpoint_of(run.config, run.topology) as endpoint:
        supervisor = Supervisor(
            command(),
            run.config,
            workers,
            is_bounded=is_bounded,
            on_ready=on_ready,
            http_folder=str(endpoint.folder) if endpoint is not None else "",
            on_members=endpoint.show if endpoint is not None else None,
        )
        run.stop.begin()
        supervisor.run(run.stop)
    return is_bounded and not run.stop.is_set


def _run_alone(run: Launch, on_ready: Callable[[], None] | None) -> bool:
    # In a process of somebody else's the start begins with this call, not with the process.
    started = time.monotonic() - (0.0 if run.stop.is_guest else process_age_s())

    def report_ready(_: int) -> None:
        if on_ready is not None:
            on_ready()

    identify(application=run.config.application_id, worker=worker_name(run.config))
    greet(run.config)
    if run.until == "drain":
        _wait_for_stop(run.config)
    cluster = KafkaCluster(run.config, tells_ends=is_merging(run.topology))
    return _run_worker(run, cluster, report_ready, started)


def _run_seat(run: Launch, seat: Seat) -> NoReturn:
    """Run a supervised worker, and exit: only the supervisor runs what follows `run`."""
    age_s = process_age_s()
    config, topics = run.config, run.topology.topics
    cluster = KafkaCluster(config, tells_ends=is_merging(run.topology))
    if seat.index == STANDBY:
        if seat.http_folder:
            import kstash.observe.server  # noqa: F401 - imported late otherwise
        cluster.prepare(topics)
        seat = seat.wait(STANDBY_RENEW_S, lambda: cluster.renew(topics))
        age_s = 0.0
    started = time.monotonic() - age_s
    report_ready = seat.join()
    config = seat.settings(config)
    identify(application=config.application_id, worker=f"worker-{seat.index}")
    greet(config)
    run = replace(run, config=config, http_socket=seat.http_socket)
    _run_worker(run, cluster, report_ready, started)
    raise SystemExit(0)


def _run_worker(
    run: Launch, cluster: KafkaCluster, on_ready: Callable[[int], None], started: float
) -> bool:
    """Run one worker; its start began at `started` (monotonic seconds).

    `cluster` may have been prepared before the worker's seat was known. `on_ready` is called with
    the number of task groups of the application. Returns whether a bounded run is over.
    """
    clock, topology, config = SystemClock(), run.topology, run.config
    has_transactions = derived.guarantee(config).logs_lineage
    files = OpenFiles(
        raise_limit(), partial(files_needed, topology=topology, has_transactions=has_transactions)
    )
    with (
        files.explained(),
        Observer(config, topology, http_socket=run.http_socket) as observer,
        closing(cluster),
    ):
        observer.metrics.gauge("build_info", 1, **build_info())
        cluster.take_place(config, _short_name(topology, config), topology.topics)
        topology, topics = _check_start(topology, config, cluster, clock, observer.beat)
        state = RocksBackend(
            Path(config.state_dir),
            config.application_id,
            topology_hash=topology.hash,
            program=program_of(topology, config.guarantee).encode(),
            memory_bytes=config.state_memory_bytes,
        )
        try:
            with seldom_collecting():
                run.stop.begin()
                worker = Worker(
                    topology,
                    config,
                    cluster=cluster,
                    state=state,
                    store=checkpoint_store(cluster, config),
                    background=Threads(),
                    clock=clock,
                    metrics=observer.metrics,
                    nonce=partial(os.urandom, 16),
                    until=run.until,
                    closes_windows=run.closes_windows,
                    on_ready=lambda: on_ready(worker.context.layout.group_count),
                    started=started,
                    topics=topics,
                    beat=observer.beat,
                    admit=files.admit,
                    hashing=hashing(),
                )
                run_loop(worker, cluster.program, run, observer=observer, state=state, files=files)
                return worker.is_done
        finally:
            state.close()


def _check_start(
    topology: Topology,
    config: Config,
    cluster: KafkaCluster,
    clock: SystemClock,
    beat: Callable[[], None],
) -> tuple[Topology, Mapping[str, TopicInfo]]:
    """Check topics, program and members before the group is joined.

    Calls `beat` in waits that may be long, such as that for the sessions of stopped members: a
    start that waits is not a loop that hangs.

    Returns:
        The topology with the numbers that its stages had before, and its topics.
    """
    admin = cluster.admin()
    cluster.prepared.keep("admin", admin)
    folder = Path(config.state_dir) / config.application_id
    has_state = any(folder.glob("*/checkpoints/*"))
    with ThreadPoolExecutor(1) as threads:
        members = threads.submit(find_foreign_members, config, cluster.program)
        topics = check_topics(admin, topology, config, has_local_state=has_state)
        cluster.limit_batches(batch_bytes_max(topics.values()))
        cluster.prepare(topology.topics, are_there=True)
        scanner = cluster.scanner()
        cluster.prepared.keep("scan", scanner)
        topology = settled(
            topology,
            config,
            topics=topics,
            admin=admin,
            scanner=scanner,
            clock=clock,
            has_local_state=has_state,
            beat=beat,
        )
        found = members.result()
    refuse_foreign_members(config, cluster.program, waits=True, found=found, beat=beat)
    return topology, topics


def _short_name(topology: Topology, config: Config) -> str:
    """A short name of what all members of one group must have in common."""
    kind = "lineage" if derived.guarantee(config).logs_lineage else config.guarantee
    return hashlib.blake2b(f"{topology.hash} {kind}".encode(), digest_size=4).hexdigest()


def _wait_for_stop(config: Config) -> None:
    """Wait until no worker is active: a group that one keeps would never be drained."""

    def report(members: list[str], wait_s: float) -> None:
        log.info("waiting for workers to leave", workers=members, up_to_s=wait_s)

    with KafkaConsole(config.bootstrap_servers, config.kafka) as kafka:
        wait_until_stopped(config, kafka.groups.members, report)
