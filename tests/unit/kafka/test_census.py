"""Who has which task group: what a group's leader gave its members."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.kafka.census import assigned, census_of
from kstash.ports.kafka import Census


def assignment(**topics: list[int]) -> bytes:
    """A ConsumerProtocolAssignment, version 3, with user data."""
    data = struct.pack(">hi", 3, len(topics))
    for name, partitions in topics.items():
        data += struct.pack(f">h{len(name)}si", len(name), name.encode(), len(partitions))
        data += struct.pack(f">{len(partitions)}i", *partitions)
    return data + struct.pack(">i4s", 4, b"user")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (assignment(), []),
        (assignment(lineage=[3, 1]), [3, 1]),
        (assignment(other=[0, 7], lineage=[2], third=[]), [2]),
        (assignment(other=[0, 7]), []),
    ],
)
def test_partitions_of_a_topic_in_an_assignment(data: bytes, expected: list[int]) -> None:
    """Those of the topic asked for, whatever else a member has; none before it was given any."""
    assert assigned(data, "lineage") == expected


def census(monkeypatch: pytest.MonkeyPatch, **answer: Any) -> Census:
    """What is made of a broker's answer of a group of two members."""
    members = [
        SimpleNamespace(id="first", assignment=assignment(lineage=[0, 2])),
        SimpleNamespace(id="second", assignment=assignment(other=[1])),
    ]
    told = {"id": "app", "error": None, "state": "Stable", "members": members} | answer
    client = SimpleNamespace(list_groups=lambda *_, **__: [SimpleNamespace(**told)])
    monkeypatch.setattr("kstash.kafka.groups.make_admin", lambda *_, **__: client)
    settings = {"client.id": "look"}
    return census_of(settings, group="app", topic="lineage", own="first", timeout_s=1)


@pytest.mark.parametrize(
    ("state", "is_settled"),
    [
        ("Stable", True),
        ("Empty", True),
        ("PreparingRebalance", False),
        ("CompletingRebalance", False),
        ("Dead", False),
    ],
)
def test_a_group_is_settled_when_no_rebalance_is_under_way(
    monkeypatch: pytest.MonkeyPatch, state: str, is_settled: bool
) -> None:
    """Who has what means nothing meanwhile."""
    assert census(monkeypatch, state=state) == Census(
        is_settled, frozenset({"first", "second"}), {0: "first", 2: "first"}, "first"
    )


@pytest.mark.parametrize("answer", [{"error": KafkaError(15)}, {"id": "another"}])
def test_no_answer_is_no_empty_group(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """It would look like task groups of nobody's."""
    with pytest.raises(KafkaException):
        census(monkeypatch, **answer)
