"""Where tasks are: stages times partitions, and the task groups they form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from kstash.core.ids import OutPartition, TaskId
from kstash.core.manifest import HASHING_SETTING, PROGRAM_SETTING
from kstash.core.plan import TaskSpec
from kstash.core.sink import METADATA_BYTES_MAX, CommittedPositions
from kstash.core.skips import Gap, Skip
from kstash.errors import ConfigError, TopicMissingError, TopologyError
from kstash.ports.kafka import Partition, TopicInfo
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.settings.skips import SkippedPlace
from kstash.topology.model import Stage, Topology, program_of


@dataclass(frozen=True)
class Layout:
    """A topology on topics with known partition counts, of which some are `compacted`.

    Task `(stage, p)` exists when any input of the stage has a partition `p`; it reads partition
    `p` of each input that has one. Task group `p` is all tasks of that number.
    """

    topology: Topology
    partition_counts: Mapping[str, int]
    compacted: frozenset[str] = frozenset()
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    message_bytes_max: Mapping[str, int] = field(default_factory=dict)
    """`max.message.bytes` of the topics that say it."""
    closes_windows: bool = False
    """Whether a bounded run is laid out that closes windows at its end."""

    @classmethod
    def of(
        cls, topology: Topology, topics: Mapping[str, TopicInfo], *, closes_windows: bool = False
    ) -> Layout:
        """The layout on the topics as they were just found; others are left aside.

        Raises:
            TopicMissingError: a topic that the application reads or writes is not there.
        """
        wanted = [*topology.input_topics, *topology.internal_topics, *topology.output_topics]
        missing = [topic for topic in wanted if topic not in topics]
        if missing:
            raise TopicMissingError(missing)
        size = "max.message.bytes"
        return cls(
            topology,
            {topic: topics[topic].partition_count for topic in wanted},
            frozenset(t for t in wanted if "compact" in topics[t].config.get("cleanup.policy", "")),
            {topic: topics[topic].topic_id for topic in wanted if topics[topic].topic_id},
            {t: int(topics[t].config[size]) for t in wanted if size in topics[t].config},
            closes_windows=closes_windows,
        )

    @cached_property
    def group_count(self) -> int:
        """Number of task groups: partitions of the lineage topic."""
        return max(self.task_count(stage) for stage in self.topology.stages)

    def task_count(self, stage: Stage) -> int:
        """Number of tasks of a stage."""
        return max(self.partition_counts[i.topic] for i in stage.inputs)

    def stages_of(self, group: int) -> list[Stage]:
        """Stages that have a task in a group, in order."""
        return [s for s in self.topology.stages if group < self.task_count(s)]

    def inputs_of(self, stage: Stage, group: int) -> dict[int, Partition]:
        """Input partitions of a task, by input index."""
        return {
            index: (source.topic, group)
            for index, source in enumerate(stage.inputs)
            if group < self.partition_counts[source.topic]
        }

    def external_inputs_of(self, stage: Stage, group: int) -> list[int]:
        """Indices of a task's inputs that are not internal topics."""
        return [i for i in self.inputs_of(stage, group) if not stage.inputs[i].internal]

    def skips_of(
        self, group: int, places: Collection[SkippedPlace]
    ) -> tuple[frozenset[Skip], frozenset[Gap]]:
        """What START says of `places`: skipped records and gaps of the inputs that read them."""
        found = [
            (stage.index, index, place)
            for stage in self.stages_of(group)
            for index, partition in self.inputs_of(stage, group).items()
            for place in places
            if partition == (place.topic, place.partition)
        ]
        skips: set[Skip] = set()
        gaps: set[Gap] = set()
        for stage_index, index, place in found:
            if place.last is not None:
                gaps.add((stage_index, index, place.offset, place.last))
            elif place.index is not None:
                skips.add((stage_index, index, place.offset, place.index))
            else:
                skips.add((stage_index, index, place.offset))
        return frozenset(skips), frozenset(gaps)

    @staticmethod
    def gaps_of(
        places: Collection[SkippedPlace],
    ) -> dict[Partition, list[tuple[int, int]]]:
        """(First, last) offsets by partition that `places` say cannot be read."""
        gaps: dict[Partition, list[tuple[int, int]]] = {}
        for place in places:
            if place.last is not None:
                gaps.setdefault((place.topic, place.partition), []).append(
                    (place.offset, place.last)
                )
        return gaps

    def check_skips(self, places: Collection[SkippedPlace]) -> Self:
        """Refuse places that name nothing, or more than they seem to; returns the layout.

        Raises:
            ConfigError: with the place, and what would be right.
        """
        topology = self.topology
        for place in places:
            if place.topic == topology.lineage_topic:
                raise _no_such_place(
                    place, "nothing in the lineage topic can be passed over: put it right, or reset"
                )
            if self.partition_counts.get(place.topic, 0) <= place.partition:
                raise _no_such_place(place, "the application reads and writes no such partition")
            is_frame = place.topic in topology.internal_topics
            is_part = place.index is not None or place.is_whole
            if is_frame and not is_part and place.last is None:
                raise _no_such_place(
                    place,
                    "what lies there is a frame of many records: add which one, as the error at it "
                    f"does, such as {place}/0, or {place}/all for each of them",
                )
            if is_part and not is_frame:
                raise _no_such_place(
                    place, "only internal topics hold frames: name topic/partition/offset"
                )
        return self

    @property
    def lineage_topic(self) -> str:
        """Name of the lineage topic."""
        return self.topology.lineage_topic

    def output_partitions(self, stage: Stage, *, internal: bool) -> list[OutPartition]:
        """Output partitions of any task of a stage."""
        return [
            (index, partition)
            for index, output in enumerate(stage.outputs)
            if output.internal == internal
            for partition in range(self.partition_counts[output.topic])
        ]

    def kafka_partition(self, stage: Stage, partition: OutPartition) -> Partition:
        """The Kafka partition of an output partition."""
        return stage.outputs[partition[0]].topic, partition[1]

    def spec(self, stage: Stage, group: int, *, is_recovering: bool) -> TaskSpec:
        """What recovery must know of a task.

        Without exactly-once recovery (`is_recovering` false) no output counts: nothing is fenced,
        scanned or suppressed.
        """
        task = TaskId(stage.index, group)
        implicit = len(self.inputs_of(stage, group)) == 1
        if not is_recovering:
            return TaskSpec(task, implicit)
        sinks = tuple(self.output_partitions(stage, internal=False))
        return TaskSpec(
            task,
            implicit,
            internal_outputs=tuple(self.output_partitions(stage, internal=True)),
            sink_outputs=sinks,
            scanned_sinks=tuple(s for s in sinks if stage.outputs[s[0]].kind.carries_lineage),
            # That windows close is an event that no record decides, so runs are logged, too.
            logs=implicit and (stage.must_log or (self.closes_windows and stage.closes_at_end)),
        )

    def internal_targets(self, group: int) -> list[Partition]:
        """Every partition of the internal topics that a group's tasks write."""
        return sorted(
            {
                self.kafka_partition(stage, partition)
                for stage in self.stages_of(group)
                for partition in self.output_partitions(stage, internal=True)
            }
        )

    def has_sinks(self, group: int) -> bool:
        """Whether any task of a group writes a user topic."""
        return any(not o.internal for stage in self.stages_of(group) for o in stage.outputs)

    def readers_of(self, partition: Partition) -> list[tuple[TaskId, int]]:
        """All tasks that read a partition, each with the index of that input."""
        topic, number = partition
        return [
            (TaskId(stage.index, number), index)
            for stage in self.topology.stages
            for index, source in enumerate(stage.inputs)
            if source.topic == topic and number < self.partition_counts[topic]
        ]

    def outputs_to(self, partition: Partition) -> list[tuple[TaskId, OutPartition]]:
        """All tasks that write an internal partition, each with the output that it is to them."""
        topic, number = partition
        return [
            (TaskId(stage.index, group), (index, number))
            for stage in self.topology.stages
            for index, output in enumerate(stage.outputs)
            if output.internal and output.topic == topic
            for group in range(self.task_count(stage))
        ]

    def writers_of(self, topic: str) -> list[TaskId]:
        """All tasks that write an internal topic."""
        return [
            TaskId(stage.index, partition)
            for stage in self.topology.stages
            if any(o.internal and o.topic == topic for o in stage.outputs)
            for partition in range(self.task_count(stage))
        ]


def _no_such_place(place: SkippedPlace, why: str) -> ConfigError:
    return ConfigError(f"skip_records names {place}: {why}", "skip_records")


def check_commit_metadata(topology: Topology) -> None:
    """Refuse a topology whose committed positions may outgrow the metadata of a commit.

    Raises:
        TopologyError: with the number of stages that have sinks, and the bytes.
    """
    # Task group 0 has a task of every stage.
    stages = [s.index for s in topology.stages if any(not o.internal for o in s.outputs)]
    size = CommittedPositions.bytes_max(stages)
    if size > METADATA_BYTES_MAX:
        raise TopologyError(
            f"{len(stages)} stages write user topics: the positions of their tasks may take "
            f"{size} bytes in each commit, and Kafka allows {METADATA_BYTES_MAX} "
            "(offset.metadata.max.bytes): merge() streams before to(), or part the application"
        )


def start_settings(layout: Layout, config: Config, hashing: str = "") -> dict[str, str]:
    """What START says of the settings that change results, and of the program.

    `hashing`: differs between hash seeds; empty: the seed is the pinned one, which START leaves out
    (older releases had no other).
    """
    counts = layout.partition_counts
    return {
        **({HASHING_SETTING: hashing} if hashing else {}),
        "topology": layout.topology.hash,
        "lineage": str(derived.guarantee(config).logs_lineage),
        **_event_time(layout.topology, config),
        "partitions": ",".join(f"{topic}={n}" for topic, n in sorted(counts.items())),
        PROGRAM_SETTING: program_of(
            layout.topology, config.guarantee, counts, layout.topic_ids
        ).encode(),
    }


def _event_time(topology: Topology, config: Config) -> dict[str, str]:
    """What START says of watermark mode; nothing without it, as older releases."""
    if not any(stage.is_watermark for stage in topology.stages):
        return {}
    return {"event_time": f"watermark idle_timeout_ms={config.idle_timeout_ms}"}
