"""The application: what is declared, with which settings, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from kstash.errors import KstashError, TopologyError
from kstash.ports.state import FinalState
from kstash.process.stopping import StopRequest
from kstash.process.tracebacks import shortened
from kstash.serdes import Serde, raw
from kstash.settings.config import Config
from kstash.surface.checks import check_application, check_choice, check_run, check_serde
from kstash.surface.graph import Graph
from kstash.surface.keyed import KeyedStream
from kstash.surface.streams import Stream
from kstash.surface.times import Times
from kstash.surface.words import APP_WORDS, missing
from kstash.topology.compiler import compile_topology
from kstash.topology.model import Topology
from kstash.topology.user_code import user_location

K = TypeVar("K")
V = TypeVar("V")


class App:
    """An application: declare its streams, then `run` it.

    Declaring is lazy: nothing is read, written or connected before `run`.

    Args:
        application_id: prefix of everything the application has in Kafka and on disk. Workers of
            the same id share the work.
        event_time: how far time has come at an operator. `records`: as far as the records that it
            took say. `watermark`: as far as the slowest of all partitions that feed it, so that one
            which is read a day ahead makes no record of the others late.
        settings: see `kstash.Config`; the settings file, `KSTASH_*` variables of the
            environment and what `configure` is given go before them.

    Raises:
        ConfigError: a setting is unknown or out of range.
        TopologyError: another word as `event_time`.
    """

    def __init__(
        self,
        application_id: str,
        *,
        event_time: Literal["records", "watermark"] = "records",
        **settings: Any,
    ) -> None:
        check_choice("event_time", event_time, ("records", "watermark"), user_location())
        self.config = Config.load(application_id=application_id, **settings)
        self._graph = Graph(is_watermark=event_time == "watermark")
        self._stop = StopRequest()

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self.config.application_id

    def configure(self, **settings: Any) -> None:
        """Override settings, wherever they came from: for what a command line says.

        Settings of the Kafka client are overridden one by one.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        self.config = self.config.override(**settings)

    @overload
    def stream(
        self,
        *topics: str,
        key: Serde[K],
        value: Serde[V],
        immediate_of: str | None = None,
        timestamp: Callable[[V], int | datetime] | None = None,
        out_of_order: timedelta | None = None,
        max_ahead: timedelta | None = None,
        idle: Literal["clock", "hold"] = "clock",
    ) -> KeyedStream[K, V]: ...
    @overload
    def stream(
        self,
        *topics: str,
        value: Serde[V],
        immediate_of: str | None = None,
        timestamp: Callable[[V], int | datetime] | None = None,
        out_of_order: timedelta | None = None,
        max_ahead: timedelta | None = None,
        idle: Literal["clock", "hold"] = "clock",
    ) -> Stream[bytes | None, V]: ...
    @overload
    def stream(
        self,
        *topics: str,
        key: Serde[K],
        immediate_of: str | None = None,
        timestamp: Callable[[bytes], int | datetime] | None = None,
        out_of_order: timedelta | None = None,
        max_ahead: timedelta | None = None,
        idle: Literal["clock", "hold"] = "clock",
    ) -> KeyedStream[K, bytes]: ...
    @overload
    def stream(
        self,
        *topics: str,
        immediate_of: str | None = None,
        timestamp: Callable[[bytes], int | datetime] | None = None,
        out_of_order: timedelta | None = None,
        max_ahead: timedelta | None = None,
        idle: Literal["clock", "hold"] = "clock",
    ) -> Stream[bytes | None, bytes]: ...

    def stream(
        self,
        *topics: str,
        key: Serde[Any] | None = None,
        value: Serde[Any] | None = None,
        immediate_of: str | None = None,
        timestamp: Callable[[Any], int | datetime] | None = None,
        out_of_order: timedelta | None = None,
        max_ahead: timedelta | None = None,
        idle: Literal["clock", "hold"] = "clock",
    ) -> Stream[Any, Any]:
        """Read one topic, or the union of several.

        Args:
            topics: names of user topics, at least one.
            key: serde of the key. Give it where state follows that is kept for each key of the
                topic; without it the key is passed on as the bytes it is.
            value: serde of the value; raw bytes by default.
            immediate_of: id of the kstash application whose immediate sink the topics are: their
                records are then seen at once and still exactly once.
            timestamp: when what a value tells of has happened, in Unix milliseconds from 0 to the
                end of the year 9999, or as a datetime with a time zone. It becomes the timestamp
                of what follows; without it that is the Kafka record's own.
            out_of_order: how much older than others before it a record may be, and still not be
                late: stream time in the stage of this source is held back by so much; 0 or more.
            max_ahead: how much larger than the Kafka record's own timestamp what `timestamp` makes
                may be. A record above that is dropped and counted, so that one of the year 2099
                does not end all windows; 0 or more.
            idle: with `event_time="watermark"`, what becomes of time while nothing comes.
                `clock`: after `idle_timeout_ms` it goes by the clock, so much behind it. `hold`:
                it waits for the next record, as where event times are not those of the clock.

        Raises:
            TopologyError: no topic, a name that Kafka does not allow, no application's id, an
                interval that is none, `max_ahead` without `timestamp`, another word as `idle`, or
                the topic was declared before with other serdes or times.
        """
        location = user_location()
        if not topics:
            raise TopologyError("stream needs a topic", location)
        check_serde("key", key, location)
        check_serde("value", value, location)
        check_application("immediate_of", immediate_of, location)
        times = Times.of(timestamp, out_of_order, max_ahead, idle, location)
        streams = tuple(
            self._graph.source(
                topic,
                key=key,
                value=value or raw,
                immediate_of=immediate_of,
                times=times,
                location=location,
            )
            for topic in topics
        )
        return streams[0] if len(streams) == 1 else self._graph.merged(streams, location)

    def topology(self) -> Topology:
        """Compile what is declared so far; the same declarations give the same topology.

        Raises:
            TopologyError: the program cannot work; names the line of the user's code.
        """
        is_watermark = self._graph.is_watermark
        return compile_topology(self.application_id, self._graph.nodes, is_watermark=is_watermark)

    def run(
        self,
        until: Literal["end", "drain"] | None = None,
        *,
        closes_windows: bool = False,
        workers: int | None = None,
        on_ready: Callable[[], None] | None = None,
        on_end: Callable[[FinalState], None] | None = None,
    ) -> bool:
        """Run until a request to stop (`stop`, SIGTERM, SIGINT), or to the end of the input.

        With `workers` this process becomes the supervisor of so many, and starts again what dies.
        Each worker executes the whole program up to here; what follows `run` is done once, by the
        supervisor. So does a program of one worker, once, to pin Python's hash seed. Neither is
        possible at a prompt, in a notebook, a thread, an event loop or a test: there `workers` is
        refused, and the seed stays what it is, with a warning.

        Signals are heard in the main thread only: elsewhere it ends by `stop`.

        Args:
            until: `end`: read the inputs to the end offsets found at the start, drain, checkpoint
                and return. `drain`: read nothing new, finish what is in flight between the
                stages, checkpoint and return: what an upgrade begins with. None: run on.
            closes_windows: with `until="end"`: close the windows that are open there, and send what
                is final of them. Without it they stay open for the next run.
            workers: number of processes, 1 or more; None: this one, without a supervisor.
            on_ready: called once, when all tasks that this worker was given at first are live; in
                a supervisor: when those of all workers are.
            on_end: called once, when a bounded run is over, with the state of the tasks that this
                worker ran; of all workers of the application exactly one owns a key there. With
                `workers` it is called in each of them, not in the supervisor.

        Returns:
            Whether a bounded run is over: False when it was stopped before that.

        Raises:
            ConfigError: `until` is something else, or `workers` cannot be had here.
            KstashError: what stopped it; nothing is lost, a new start goes on.
            WorkerFailedError: a supervised worker died again and again, or of what a restart does
                not mend.
        """
        # Late: who declares a program only, or draws it, needs no Kafka client.
        from kstash.process.launch import run_app

        check_run(until, closes_windows, workers, on_ready, on_end)
        try:
            return run_app(
                self.topology,
                self.config,
                self._stop,
                until=until,
                closes_windows=closes_windows,
                workers=workers,
                on_ready=on_ready,
                on_end=on_end,
            )
        except KstashError as error:
            raise shortened(error) from error.__cause__
        finally:
            self._stop = StopRequest()

    def stop(self) -> None:
        """Ask the `run` of this application to end in order, as SIGTERM does; return at once.

        For other threads, `on_ready` and signal handlers. Where it comes before `run` does, that
        run ends as soon as it has begun.
        """
        self._stop.is_set = True

    if not TYPE_CHECKING:  # a type checker would believe that every name is there

        def __getattr__(self, name: str) -> NoReturn:
            raise missing(self, name, APP_WORDS, user_location())
