"""Which program an application ran last, and whether another one may continue from its state.

A start reads the STARTs and RELEASEs of all task groups before it claims any: a program that was
accepted on some groups and refused on others could neither continue nor be taken back. The start
also settles the numbers of the stages, which must be the same in all workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from kstash.core.ids import NO_INCARNATION
from kstash.core.lineage import LineageView
from kstash.core.manifest import (
    PROGRAM_SETTING,
    Manifest,
    difference,
    manifest_of,
    renumbered,
)
from kstash.core.record_keys import CLAIM, CONFIG, RELEASE, START, key_incarnation
from kstash.core.records import Start
from kstash.core.upgrade import is_changed, program_changed, signature
from kstash.core.wire import Fence, application_tag
from kstash.errors import (
    KafkaUnavailableError,
    LocatedError,
    TopicMadeAnewError,
    TopicMismatchError,
)
from kstash.ports.kafka import Admin, Consumer, Message, Partition, TopicInfo
from kstash.ports.process import Clock
from kstash.runtime.headers import check_owner, kstash_headers
from kstash.runtime.layout import Layout, start_settings
from kstash.runtime.lineage_reader import lineage_record
from kstash.runtime.places import located
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import Topology, numbered

READ_DEADLINE_S = 30.0
"""After so long without any record the cluster counts as unreachable."""

POLL_S = 0.1

log = structlog.get_logger("kstash.program")


def settled(
    topology: Topology,
    config: Config,
    *,
    topics: Mapping[str, TopicInfo],
    admin: Admin,
    scanner: Consumer,
    clock: Clock,
    has_local_state: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> Topology:
    """The topology with the numbers that its stages had before.

    Args:
        topology: what this process is to run.
        config: its settings.
        topics: those of the application, described just before.
        admin: asks for offsets.
        scanner: reads; it has no partitions, neither before the call nor after it.
        clock: for deadlines.
        has_local_state: this machine has checkpoints of the application.
        beat: called during the read: a large lineage may take longer than the loop may stand still.

    Raises:
        ProgramChangedError: another program ran last, and has not been drained, or its state
            cannot be taken over.
        TopicMadeAnewError: the lineage topic is new, but internal topics, remote checkpoints or
            the state on this disk are not.
        TopicMissingError: a topic that the application reads or writes is not there.
        TopicMismatchError: a newly used internal topic holds records of an earlier program.
        TopicSharedError: an internal topic holds records of another application.
        KafkaUnavailableError: no answer within the deadline.
    """
    layout = Layout.of(topology, topics)
    # Before the lineage is read: a worker that writes there afterwards has its START in it already.
    own = [*topology.internal_topics, topology.checkpoints_topic]
    filled = _filled(admin, topics, own)
    checkpoints = [p for p in filled if p[0] == topology.checkpoints_topic]
    filled = {p: start for p, start in filled.items() if p not in checkpoints}
    views = _read_lineage(
        _partitions_of(topology.lineage_topic, topics), admin, scanner, clock, beat
    )
    starts = [view.starts[max(view.starts)] for view in views if view.starts]
    if not derived.guarantee(config).recovers:
        _check_never_recovered(starts, start_settings(layout, config))
        return topology
    if not starts:
        # `kstash reset` writes a generation there: then state left on other machines does no harm.
        if (has_local_state or checkpoints) and all(view.generation is None for view in views):
            raise TopicMadeAnewError([topology.lineage_topic])
        _check_is_new(topology, filled, views, scanner, clock)
        return topology
    settings = start_settings(layout, config)
    try:
        return _continued(topology, config, settings, views=views, starts=starts, filled=filled)
    except TopicMismatchError as error:
        found = {p: start for p, start in filled.items() if p[0] == error.topic}
        _check_owners(topology, found, scanner, clock)
        raise


def _check_never_recovered(starts: Collection[Start], settings: Mapping[str, str]) -> None:
    """Refuse `none` after another guarantee (H57).

    It would begin without state beside internal topics that hold records, and leave frames there
    that are in no lineage.
    """
    for start in starts:
        before = manifest_of(start.settings)
        if before is not None:
            changes = difference(before, renumbered(before, _manifest(settings)))
            raise program_changed(start.settings, settings, changes, ())


def _continued(
    topology: Topology,
    config: Config,
    settings: Mapping[str, str],
    *,
    views: Collection[LineageView],
    starts: Collection[Start],
    filled: Mapping[Partition, int],
) -> Topology:
    own = signature(settings)
    older = [(start, manifest_of(start.settings)) for start in starts]
    known = [
        (signature(start.settings) == own, manifest.next_number, start, manifest)
        for start, manifest in older
        if manifest is not None
    ]
    if not known:
        return topology
    is_same, _, _, before = max(known, key=lambda entry: entry[:2])
    manifest = renumbered(before, _manifest(settings))
    continued = numbered(topology, manifest)
    changes = difference(before, manifest)
    if not is_changed(
        starts,
        settings,
        changes,
        frozenset(config.drop_stores),
        is_drained=lambda changed: _is_drained(views, changed, is_begun=is_same),
    ):
        return continued
    used = {topic for stage in before.stages for topic, internal in stage.inputs if internal}
    for topic, _ in filled:
        if topic not in used:
            raise TopicMismatchError(
                topic,
                "number of records",
                found="more than 0",
                needed="0, since the program that ran last did not use it: the records are older",
                fix="give the key edge of the program another name (`name=` of key_by, or the "
                "name in repartition), and leave that topic alone",
            )
    log.info("program changed", changes=[change.text for change in changes])
    return continued


def _manifest(settings: Mapping[str, str]) -> Manifest:
    return Manifest.decode(settings[PROGRAM_SETTING])


def _is_drained(
    views: Collection[LineageView], changed: Collection[Start], *, is_begun: bool
) -> bool:
    """Whether all groups that another program ran were released by one and the same run.

    `is_begun`: the new program runs on some groups already, so that was checked for all of them.
    """
    runs = set()
    for view in views:
        for start in changed:
            if view.starts.get(start.incarnation) is start:
                release = view.releases.get(start.incarnation)
                runs.add(release[1].run if release is not None else None)
    return None not in runs and (is_begun or len(runs) == 1)


# --- reading ------------------------------------------------------------------------------------


def _partitions_of(topic: str, topics: Mapping[str, TopicInfo]) -> list[Partition]:
    """All partitions of a topic; none when it does not exist."""
    info = topics.get(topic)
    return [(topic, number) for number in range(info.partition_count if info is not None else 0)]


def _filled(
    admin: Admin, topics: Mapping[str, TopicInfo], names: Iterable[str]
) -> dict[Partition, int]:
    """Start offsets of the partitions of these topics that hold records, or held some."""
    partitions = [partition for topic in names for partition in _partitions_of(topic, topics)]
    starts, ends = admin.start_offsets(partitions), admin.end_offsets(partitions)
    return {p: starts[p] for p in partitions if ends[p] > starts[p]}


def _read_lineage(
    partitions: Collection[Partition],
    admin: Admin,
    scanner: Consumer,
    clock: Clock,
    beat: Callable[[], None],
) -> list[LineageView]:
    """One view for each task group, of its STARTs and RELEASEs only."""
    views = {partition: LineageView() for partition in partitions}
    starts, ends = admin.start_offsets(partitions), admin.end_offsets(partitions)

    def take(message: Message) -> None:
        try:
            kind = key_incarnation(message.key() or b"")[1]
        except LocatedError as error:
            raise located(error, message) from error
        if kind in (CONFIG, CLAIM, START, RELEASE):
            record = lineage_record(message)
            if record is not None:
                views[message.topic(), message.partition()].fold(message.offset(), record)

    _read({p: (starts[p], ends[p]) for p in partitions}, take, scanner, clock, beat)
    return list(views.values())


def _check_owners(
    topology: Topology, filled: Mapping[Partition, int], scanner: Consumer, clock: Clock
) -> None:
    """Refuse internal topics that another application writes; `filled`: where their records start.

    Raises:
        TopicSharedError: names the topic and the other application's tag.
    """
    application = application_tag(topology.application_id)

    def take(message: Message) -> None:
        identity, marker = kstash_headers(message)
        check_owner(message, identity or marker, application)

    _read({p: (start, start + 1) for p, start in filled.items()}, take, scanner, clock)


def _check_is_new(
    topology: Topology,
    filled: Mapping[Partition, int],
    views: Collection[LineageView],
    scanner: Consumer,
    clock: Clock,
) -> None:
    """Refuse a lineage topic without a START beside internal topics that an older one wrote.

    Their frames would pass as the beginning of the new history.
    """
    generations = {view.generation for view in views}
    application = application_tag(topology.application_id)

    def take(message: Message) -> None:
        identity, marker = kstash_headers(message)
        check_owner(message, identity or marker, application)
        if identity is not None and identity.incarnation == NO_INCARNATION:
            raise TopicMismatchError(
                message.topic(),
                "number of records",
                found="more than 0",
                needed="0: they were written under guarantee 'none', or the lineage topic is gone, "
                "so it is not known how far they were processed",
                fix="give the program another application_id; "
                f"`kstash reset {topology.application_id}` gives up what this one has",
            )
        if identity is not None:
            found = {identity.incarnation.generation}
        elif isinstance(marker, Fence):
            found = {incarnation.generation for _, incarnation in marker.incarnations}
        else:
            return
        if not found <= generations:
            raise TopicMadeAnewError([topology.lineage_topic])

    _read({p: (start, start + 1) for p, start in filled.items()}, take, scanner, clock)


def _read(
    ranges: Mapping[Partition, tuple[int, int]],
    take: Callable[[Message], None],
    scanner: Consumer,
    clock: Clock,
    beat: Callable[[], None] = lambda: None,
) -> None:
    left = {p: end for p, (start, end) in ranges.items() if start < end}
    if not left:
        return
    scanner.add({p: ranges[p][0] for p in left})
    deadline_s = clock.monotonic() + READ_DEADLINE_S
    while left:
        messages = scanner.poll(POLL_S)
        beat()
        for message in messages:
            end = left.get((message.topic(), message.partition()))
            if end is not None and message.offset() < end:
                take(message)
        done = [p for p, end in left.items() if scanner.position(p) >= end]
        for partition in done:
            del left[partition]
        scanner.remove(done)
        if messages:
            deadline_s = clock.monotonic() + READ_DEADLINE_S
        elif left and clock.monotonic() > deadline_s:
            raise KafkaUnavailableError(
                f"no record of {sorted(left)} came within {READ_DEADLINE_S:g} s: check the brokers"
            )
