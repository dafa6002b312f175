"""Puts together what the parts of a worker share, and the parts that use much of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kstash.core.partitioner import partitioners
from kstash.core.wire import application_tag
from kstash.ports.kafka import Admin, Cluster, TopicInfo
from kstash.ports.state import CheckpointStore, StateBackend
from kstash.runtime.context import Clients, LineageTimes, Producers, RuntimeContext, Services
from kstash.runtime.ends import IdleEnds
from kstash.runtime.gate import Gate
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.inputs import consumer_of
from kstash.runtime.layout import Layout, start_settings
from kstash.runtime.pace import Paces
from kstash.runtime.scan import ScanService
from kstash.runtime.worker.bounded import RunFinder
from kstash.runtime.worker.groups import Groups
from kstash.runtime.worker.intake import Intake
from kstash.runtime.worker.report import Reporter
from kstash.runtime.worker.retention_margin import RetentionMargin
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import Topology


def context_of(
    topology: Topology,
    config: Config,
    topics: Mapping[str, TopicInfo],
    *,
    cluster: Cluster,
    admin: Admin,
    producers: Producers,
    services: Services,
    state: StateBackend,
    store: CheckpointStore | None,
    beat: Callable[[], None],
    hashing: str,
    closes_windows: bool,
) -> RuntimeContext:
    """The context of a new worker.

    Args:
        topology: the compiled application.
        config: settings.
        topics: of the application, as they are.
        cluster: makes the clients that are not given.
        admin: of the worker.
        producers: of the worker.
        services: of the process.
        state: where the tasks' states live.
        store: where remote checkpoints go, if anywhere.
        beat: called within turns that take long.
        hashing: as of `start_settings`.
        closes_windows: as of the worker.
    """
    layout = Layout.of(topology, topics, closes_windows=closes_windows)
    layout.check_skips(derived.skipped_places(config))
    consumer, membership = consumer_of(cluster, topology), cluster.membership()
    scans = ScanService(cluster.scanner(), layout.gaps_of(derived.skipped_places(config)))

    def pulse() -> None:
        membership.serve()
        beat()

    return RuntimeContext(
        config=config,
        guarantee=derived.guarantee(config),
        layout=layout,
        clients=Clients(cluster, admin, membership, consumer, scans, producers=producers),
        services=services,
        state=state,
        store=store,
        application=application_tag(topology.application_id),
        partitioners=partitioners(layout.partition_counts),
        start_settings=start_settings(layout, config, hashing),
        lineage_times=LineageTimes.of(topics.get(topology.lineage_topic)),
        gate=Gate(consumer),
        paces=Paces(config),
        pulse=pulse,
        ends=IdleEnds(admin, layout),
    )


def groups_of(
    context: RuntimeContext,
    intake: Intake,
    bounded: RunFinder | None,
    started: float | None,
    admit: Callable[[int], None] | None,
) -> Groups:
    """What begins and gives up the task groups; the arguments are those of `Groups`."""
    return Groups(
        partial(TaskGroup, context),
        context.clients.membership,
        config=context.config,
        services=context.services,
        group_count=context.layout.group_count,
        intake=intake,
        bounded=bounded,
        started=started,
        admit=admit,
    )


def reporter_of(context: RuntimeContext, margin: RetentionMargin) -> Reporter:
    """What reports of this worker."""
    return Reporter(
        context.config,
        context.layout,
        clients=context.clients,
        services=context.services,
        load=context.load,
        recoveries=context.recoveries,
        margin=margin,
    )
