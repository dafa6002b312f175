"""Foreign readers of an application's outputs, and what must hold of what they read.

Written from the protocol's text and `wire-format.md` alone: this file imports nothing of
kstash, so that an error in the library cannot hide itself.

- `read_committed`: a plain Kafka consumer that waits for transactions; no kstash logic.
- `read_with_rule`: a plain Kafka consumer that sees everything at once and applies the reader rule
  (protocol, section 7) to the identity header of each record.
- `check_counts`, `check_chains`: what the outputs of the counting applications and of the rolling
  hash must be. A violation is an `AssertionError` that names the key and where it went wrong.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kafka import KafkaConsumer, TopicPartition

from tests.chaos.ends import ends_of

IDENTITY_HEADER = "__kstash.s"
# Version, application tag, stage, partition, generation, CLAIM offset, position, count, first seq.
_IDENTITY = struct.Struct(">BQHIQQQIQ")


@dataclass(frozen=True, slots=True)
class Output:
    """One record as the broker handed it out."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


Outputs = dict[int, list[Output]]
"""Per partition, in the order of their offsets."""


def read_committed(bootstrap: str, topic: str, *, deadline_s: float = 60) -> Outputs:
    """Read a topic from its beginning to its end as any consumer with transactions does."""
    return _read(bootstrap, topic, "read_committed", deadline_s)


def read_everything(bootstrap: str, topic: str, *, deadline_s: float = 60) -> Outputs:
    """Read a topic to its end, aborted and open transactions included."""
    return _read(bootstrap, topic, "read_uncommitted", deadline_s)


def read_with_rule(bootstrap: str, topic: str, *, deadline_s: float = 60) -> Outputs:
    """Read a topic to its end, aborted and open transactions included, by the reader rule.

    Raises:
        AssertionError: a record without identity, a jump in a sequence.
    """
    rules: dict[int, ReaderRule] = defaultdict(ReaderRule)
    everything = read_everything(bootstrap, topic, deadline_s=deadline_s)
    return {
        partition: [output for output in outputs if rules[partition].accepts(output)]
        for partition, outputs in everything.items()
    }


def read_inputs(
    bootstrap: str,
    topics: Sequence[str],
    *,
    deadline_s: float = 120,
    starts: Mapping[tuple[str, int], int] | None = None,
) -> list[tuple[str, int, str | None, str]]:
    """(topic, partition, key, value) of all input, each partition in order.

    `starts` says by topic and partition where to begin, if not at the beginning.

    What was fed is not what the feeder asked for: a producer whose broker hangs may write a batch
    twice in spite of idempotence, when it had to begin a new session. The topic is the truth.
    """
    found = []
    for topic in topics:
        for partition, records in _read(bootstrap, topic, "read_committed", deadline_s).items():
            for record in records:
                if record.offset < (starts or {}).get((topic, partition), 0):
                    continue
                assert record.value is not None, f"null value at {_place(record)}"
                key = None if record.key is None else record.key.decode()
                found.append((topic, partition, key, record.value.decode()))
    return found


def _read(
    bootstrap: str,
    topic: str,
    isolation_level: Literal["read_committed", "read_uncommitted"],
    deadline_s: float,
) -> Outputs:
    deadline = time.monotonic() + deadline_s
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation_level,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=5000,
    )
    try:
        numbers = None
        while not numbers:
            assert time.monotonic() < deadline, f"no metadata of {topic} within {deadline_s} s"
            numbers = consumer.partitions_for_topic(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        # With read_committed this is the last stable offset: nothing open may lie before it.
        ends = ends_of(
            bootstrap, partitions, deadline_s=deadline_s, isolation_level=isolation_level
        )
        outputs: Outputs = {partition.partition: [] for partition in partitions}
        while any(consumer.position(p) < ends[p] for p in partitions):
            assert time.monotonic() < deadline, f"{topic} not read to {ends} in {deadline_s} s"
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    outputs[record.partition].append(
                        Output(
                            record.partition,
                            record.offset,
                            record.key,
                            record.value,
                            tuple(record.headers or ()),
                        )
                    )
        return outputs
    finally:
        consumer.close()


def generation_of(output: Output) -> int:
    """The generation of the application that wrote this record."""
    (header,) = (value for name, value in output.headers if name == IDENTITY_HEADER)
    return int(_IDENTITY.unpack(header)[4])


@dataclass(slots=True)
class ReaderRule:
    """The reader rule's state for one partition of a sink that is read from its beginning."""

    max_incarnation: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    last_sequence: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def accepts(self, output: Output) -> bool:
        """Whether this record counts; updates the table."""
        headers = [value for name, value in output.headers if name == IDENTITY_HEADER]
        assert len(headers) == 1, f"{len(headers)} identity headers at {_place(output)}"
        assert len(headers[0]) == _IDENTITY.size, f"malformed identity at {_place(output)}"
        version, application, stage, partition, generation, claim, _position, count, sequence = (
            _IDENTITY.unpack(headers[0])
        )
        assert (version, count) == (1, 1), f"version {version}, count {count} at {_place(output)}"
        group = (application, partition)
        task = (application, stage, partition)
        incarnation = (generation, claim)
        highest = self.max_incarnation.get(group, (0, 0))
        if incarnation < highest:
            return False
        if generation > highest[0]:
            for known in [k for k in self.last_sequence if (k[0], k[2]) == group]:
                self.last_sequence[known] = 0
        self.max_incarnation[group] = incarnation
        last = self.last_sequence.get(task, 0)
        if sequence <= last:
            return False
        assert sequence == last + 1, (
            f"task {stage}_{partition} jumps from sequence {last} to {sequence} at {_place(output)}"
        )
        self.last_sequence[task] = sequence
        return True


def _place(output: Output) -> str:
    return f"partition {output.partition}, offset {output.offset}"


def by_key(outputs: Outputs) -> dict[bytes, list[bytes]]:
    """Values of each key in order. A key must live in one partition only."""
    values: dict[bytes, list[bytes]] = defaultdict(list)
    homes: dict[bytes, int] = {}
    for partition, records in outputs.items():
        for output in records:
            assert output.key is not None, f"null key at {_place(output)}"
            assert output.value is not None, f"null value at {_place(output)}"
            home = homes.setdefault(output.key, partition)
            assert home == partition, f"key {output.key!r} in partitions {home} and {partition}"
            values[output.key].append(output.value)
    return dict(values)


def check_counts(outputs: Outputs, expected: Mapping[str, int]) -> None:
    """Each key's outputs are exactly 1, 2, 3 … n: nothing lost, doubled or out of order."""
    found = by_key(outputs)
    missing = sorted(set(expected) - {key.decode() for key in found})
    assert not missing, f"no output for {len(missing)} keys: {missing[:5]}"
    for raw_key, values in found.items():
        key = raw_key.decode()
        assert key in expected, f"{key!r} was never in the input"
        numbers = [int(value) for value in values]
        for index, number in enumerate(numbers):
            assert number == index + 1, f"{key!r}: output {index + 1} says {number}"
        assert len(numbers) == expected[key], f"{key!r}: {len(numbers)} of {expected[key]} outputs"


def next_hash(previous: str, value: str) -> str:
    """One step of the rolling hash, as `rolling_hash_app` defines it."""
    return hashlib.sha256(f"{previous} {value}".encode()).hexdigest()[:16]


def check_chains(
    outputs: Outputs, inputs: Sequence[Mapping[str, Sequence[str]]], *, is_complete: bool = True
) -> None:
    """Each key's outputs are one chain over some interleaving of the input topics.

    Args:
        outputs: values are JSON `{"count": n, "hash": h, "last": value consumed}`.
        inputs: per input topic, the values of each key in order; no value is in two topics.
        is_complete: every input must have made its output already.
    """
    found = by_key(outputs)
    for raw_key, values in found.items():
        key = raw_key.decode()
        queues = [list(topic.get(key, ())) for topic in inputs]
        taken = [0] * len(inputs)
        chain = ""
        for index, value in enumerate(values):
            state = json.loads(value)
            step = f"{key!r}: output {index + 1} of {len(values)}"
            assert state["count"] == index + 1, f"{step} says {state['count']}"
            chain = next_hash(chain, state["last"])
            assert state["hash"] == chain, f"{step} does not follow from the output before it"
            topic = _topic_of(state["last"], queues, taken)
            assert topic is not None, f"{step} consumed {state['last']!r} out of turn"
            taken[topic] += 1
        if is_complete:
            left = [len(queue) - count for queue, count in zip(queues, taken, strict=True)]
            assert not any(left), f"{key!r}: {left} inputs of each topic made no output"
    if is_complete:
        missing = {key for topic in inputs for key in topic} - {key.decode() for key in found}
        assert not missing, f"no output for {len(missing)} keys: {sorted(missing)[:5]}"


def _topic_of(value: str, queues: Sequence[Sequence[str]], taken: Sequence[int]) -> int | None:
    for topic, (queue, count) in enumerate(zip(queues, taken, strict=True)):
        if count < len(queue) and queue[count] == value:
            return topic
    return None


def check_same(one: Outputs, other: Outputs) -> None:
    """Two readers saw the same outputs of each key in the same order."""
    first, second = by_key(one), by_key(other)
    assert first.keys() == second.keys(), f"keys differ: {sorted(first.keys() ^ second.keys())[:5]}"
    for key, values in first.items():
        assert values == second[key], (
            f"{key!r}: the readers differ from output {first_difference(values, second[key])} on"
        )


def check_gathered(outputs: Outputs, inputs: Mapping[str, Sequence[object]]) -> None:
    """What `timing_app` sends: each value once, in order, when its timer was due.

    Values of a key that leave together say the same of clock and timer, under an id that no others
    have; and the clock never goes back within a partition.
    """
    together: dict[str, tuple[bytes, int, int, int]] = {}
    for partition, records in outputs.items():
        clock_ms = 0
        for output in records:
            said = json.loads(output.value or b"null")
            set_ms, due_ms, now_ms = said["set_ms"], said["due_ms"], said["now_ms"]
            assert set_ms < due_ms <= now_ms, f"{_place(output)}: {said}"
            assert clock_ms <= now_ms, f"{_place(output)}: {clock_ms} comes before {now_ms}"
            clock_ms = now_ms
            mine = output.key or b"", set_ms, due_ms, now_ms
            assert together.setdefault(said["id"], mine) == mine, f"{_place(output)}: {said}"
        assert records, f"partition {partition} has no output"
    found = {
        key.decode(): [json.loads(value)["item"] for value in values]
        for key, values in by_key(outputs).items()
    }
    assert found.keys() == inputs.keys(), f"keys differ: {sorted(found.keys() ^ inputs.keys())[:5]}"
    for key, values in inputs.items():
        at = first_difference(found[key], values)
        assert found[key] == list(values), f"{key!r}: the values differ from number {at} on"


def check_in_order(
    outputs: Outputs, expected: Mapping[int, Sequence[tuple[bytes, bytes]]], what: str
) -> None:
    """A topic holds what is expected by partition, key and value, each output in its place."""
    for partition, sent in expected.items():
        found = [(output.key, output.value) for output in outputs[partition]]
        at = first_difference(found, sent)
        assert found == sent, (
            f"{what}, partition {partition}: {len(found)} outputs, {len(sent)} expected; number "
            f"{at} is {found[at - 1 : at]}, {sent[at - 1 : at]} expected"
        )


def check_no_headers(outputs: Outputs) -> None:
    """Records have no sign of kstash."""
    headers = {name for place in outputs.values() for output in place for name, _ in output.headers}
    assert not headers, f"records of transactional delivery carry {headers}"


def first_difference(one: Sequence[object], other: Sequence[object]) -> int:
    """Number of the first item that is not the same in both, from 1 on; one more than both have."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return same + 1
