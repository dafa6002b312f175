"""What windows must send of an input partition, record by record: the order of all of it too.

Written from the guide's text; this file imports nothing of kstash. Keys of results are Kafka
Streams' bytes: the key, then the window's start, or a session's end and start, in 8 bytes each.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Click = tuple[str, int, int]
"""Key, event time in ms, number."""

Sent = tuple[bytes, bytes]
"""Key and value of a result."""


@dataclass(slots=True)
class Held:
    """A window that has records."""

    start: int
    end: int
    number: int


KINDS = ("updates", "late", "finals", "visits")
"""What `windows_app` writes, by the ends of the topics' names."""


def clicks_of(
    choice: random.Random, begin_ms: int, *, keys: int, jump_each: int
) -> Iterator[Click]:
    """Clicks out of order by up to a second, some by more, and now and then an hour later.

    Args:
        choice: decides.
        begin_ms: time of the first ones.
        keys: how many.
        jump_each: records between two jumps, which close the windows of all keys at once.
    """
    number = 0
    while True:
        late_ms = choice.randrange(8_000) if number % 13 == 0 else choice.randrange(1_000)
        at = begin_ms + number * 2 + number // jump_each * 3_600_000 - late_ms
        yield f"key-{choice.randrange(keys)}", at, number
        number += 1


def merged(logs: list[list[Click]]) -> list[Click]:
    """Clicks of several topics: always the one that tells of the earliest time comes next."""
    heads = [0] * len(logs)
    made: list[Click] = []
    while left := [i for i, log in enumerate(logs) if heads[i] < len(log)]:
        first = min(left, key=lambda i: (logs[i][heads[i]][1], i))
        made.append(logs[first][heads[first]])
        heads[first] += 1
    return made


def all_kinds(fed: Mapping[int, Iterable[Click]]) -> dict[str, dict[int, list[Sent]]]:
    """What `windows_app` makes of clicks by partition: by kind and partition."""
    made: dict[str, dict[int, list[Sent]]] = {kind: {} for kind in KINDS}
    for partition, clicks in fed.items():
        made["updates"][partition], made["late"][partition] = updates(clicks, 1_000, 500)
        made["finals"][partition] = finals(clicks, 10_000, 2_000)
        made["visits"][partition] = visits(clicks, 3_000, 1_000)
    return made


def window_key(key: bytes, *bounds: int) -> bytes:
    """The key of a result."""
    return key + b"".join(struct.pack(">q", bound) for bound in bounds)


def updates(clicks: Iterable[Click], size: int, grace: int) -> tuple[list[Sent], list[Sent]]:
    """Counts by tumbling window, one for each click; and the clicks that came too late."""
    counts: dict[tuple[str, int], int] = {}
    sent: list[Sent] = []
    late: list[Sent] = []
    time = -1
    for key, at, number in clicks:
        start = at - at % size
        if start + size + grace <= max(time, at):
            late.append((key.encode(), b"%d" % number))
            continue
        time = max(time, at)
        counts[key, start] = count = counts.get((key, start), 0) + 1
        sent.append((window_key(key.encode(), start), b"%d" % count))
    return sent, late


def finals(clicks: Iterable[Click], size: int, grace: int) -> list[Sent]:
    """Sums by tumbling window, one for each window that the input has closed."""
    sums: dict[tuple[int, bytes], int] = {}
    sent: list[Sent] = []
    time = -1
    for key, at, number in clicks:
        start = at - at % size
        if start + size + grace <= max(time, at):
            continue
        if at > time:
            time = at
            for window in sorted(w for w in sums if w[0] + size + grace <= time):
                sent.append((window_key(window[1], window[0]), b"%d" % sums.pop(window)))
        sums[start, key.encode()] = sums.get((start, key.encode()), 0) + number
    return sent


def visits(clicks: Iterable[Click], gap: int, grace: int) -> list[Sent]:
    """Counts by session, one for each session that the input has closed."""
    sessions: dict[str, list[Held]] = {}
    sent: list[Sent] = []
    time = -1
    for key, at, _ in clicks:
        now = max(time, at)
        near = [
            session
            for session in sessions.get(key, ())
            if session.start - gap <= at <= session.end + gap and now <= session.end + gap + grace
        ]
        start = min([at, *(session.start for session in near)])
        end = max([at, *(session.end for session in near)])
        if now > end + gap + grace:
            continue
        if at > time:
            time = at
            due = sorted(
                (session.end, session.start, name.encode(), session)
                for name, open_sessions in sessions.items()
                for session in open_sessions
                if time > session.end + gap + grace
            )
            for last, first, name, session in due:
                sent.append((window_key(name, last, first), b"%d" % session.number))
                sessions[name.decode()].remove(session)
        count = 1 + sum(session.number for session in near)
        others = [session for session in sessions.get(key, ()) if session not in near]
        sessions[key] = [*others, Held(start, end, count)]
    return sent
