"""What all else that goes by time must send of an input partition: by records, and by the clock.

Written from the guide's text; this file imports nothing of kstash. What goes by stream time alone
is worked out record by record, with its order. Of what the clock decides the input says less:
which results there may be, and what has to be true of all of them together.
"""

from __future__ import annotations

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.chaos.checkers import Outputs
from tests.chaos.window_checks import Click, Sent, window_key

TIMED_KINDS = ("hops", "slides", "once", "pauses")
"""What `timed_app` makes of the input alone, by the ends of the topics' names."""


def all_timed(fed: Mapping[int, Iterable[Click]]) -> dict[str, dict[int, list[Sent]]]:
    """What `timed_app` makes of clicks by partition, of the kinds that the clock has no part in."""
    made: dict[str, dict[int, list[Sent]]] = {kind: {} for kind in TIMED_KINDS}
    for partition, clicks in fed.items():
        made["hops"][partition] = hops(clicks, 3_000, 1_000, 500)
        made["slides"][partition] = slides(clicks, 2_000, 1_000)
        made["once"][partition] = once(clicks, 1_000, 4_000)
        made["pauses"][partition] = pauses(clicks, 2_000)
    return made


def hops(clicks: Iterable[Click], size: int, step: int, grace: int) -> list[Sent]:
    """Sums by hopping window, one for each window that the input has closed."""
    sums: dict[tuple[int, bytes], int] = {}
    sent: list[Sent] = []
    time = -1
    for key, at, number in clicks:
        now = max(time, at)
        newest = at - at % step
        starts = [
            start
            for start in range(newest, newest - size, -step)
            if start + size > at and start + size + grace > now
        ]
        if not starts:
            continue
        if now > time:
            time = now
            for window in sorted(w for w in sums if w[0] + size + grace <= time):
                sent.append((window_key(window[1], window[0]), b"%d" % sums.pop(window)))
        for start in starts:
            sums[start, key.encode()] = sums.get((start, key.encode()), 0) + number
    return sent


def slides(clicks: Iterable[Click], size: int, grace: int) -> list[Sent]:
    """Counts by sliding window, one for each window that the input has closed.

    Windows with a start before the horizon are closed, and so is a record that is older than it.
    """
    kept: dict[bytes, list[int]] = defaultdict(list)
    sent: list[Sent] = []
    time = -1
    for key, at, _ in clicks:
        now = max(time, at)
        if at < now - size - grace:
            continue
        if now > time:
            closed = time - size - grace
            horizon = now - size - grace
            time = now
            due = [
                (start, name, count)
                for name, times in kept.items()
                for start, count in _slides_of(times, size)
                if closed <= start < horizon
            ]
            for start, name, count in sorted(due):
                sent.append((window_key(name, start), b"%d" % count))
            for name, times in kept.items():
                # What begins after a record begins at most 1 ms after it.
                kept[name] = [each for each in times if each + 1 >= horizon]
        kept[key.encode()].append(at)
    return sent


def _slides_of(times: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """The windows of one key's records: start, and how many are in it."""
    starts = {at - size for at in times} | {at + 1 for at in times}
    for start in starts:
        if count := sum(start <= at <= start + size for at in times):
            yield start, count


def once(clicks: Iterable[Click], part: int, within: int) -> list[Sent]:
    """The first click of each key and `part`, and another one when so much time has gone."""
    passed: dict[tuple[str, int], int] = {}
    sent: list[Sent] = []
    time = -1
    for key, at, number in clicks:
        time = max(time, at)
        mark = key, at // part
        if time < passed.get(mark, -within) + within:
            continue
        passed[mark] = time
        sent.append((key.encode(), b"%d" % number))
    return sent


def pauses(clicks: Iterable[Click], after: int) -> list[Sent]:
    """How many clicks of a key came before each time of which none came."""
    counts: dict[bytes, int] = defaultdict(int)
    timers: dict[bytes, int] = {}
    sent: list[Sent] = []
    time = -1
    for key, at, _ in clicks:
        time = max(time, at)
        for _, name in sorted((due, name) for name, due in timers.items() if due <= time):
            sent.append((name, b"%d" % counts.pop(name)))
            del timers[name]
        counts[key.encode()] += 1
        timers[key.encode()] = time + after
    return sent


# -- by the clock ----------------------------------------------------------------------------------


def window_of(key: bytes) -> tuple[bytes, int]:
    """A result's key: the record's, and where the window begins."""
    return key[:-8], int(struct.unpack(">q", key[-8:])[0])


Counts = dict[tuple[bytes, int], int]
"""By key and start of the window."""


def counts_by_window(fed: Mapping[int, Sequence[Click]], size: int, grace: int) -> Counts:
    """How many clicks of each tumbling window were not late, where stream time alone counts."""
    counts: Counts = {}
    for clicks in fed.values():
        time = -1
        for key, at, _ in clicks:
            window = key.encode(), at - at % size
            if window[1] + size + grace > max(time, at):
                time = max(time, at)
                counts[window] = counts.get(window, 0) + 1
    return counts


def last_counts(outputs: Outputs) -> Counts:
    """The last result of each window."""
    return {
        window_of(output.key or b""): int(output.value or b"0")
        for records in outputs.values()
        for output in records
    }


def check_intervals(
    outputs: Outputs, fed: Mapping[int, Sequence[Click]], size: int, grace: int
) -> None:
    """Counts of each window rise, up to the last one; which are left out is the clock's affair."""
    seen: Counts = {}
    for records in outputs.values():
        for output in records:
            window, count = window_of(output.key or b""), int(output.value or b"0")
            assert seen.get(window, 0) < count, f"{window}: {count} after {seen.get(window)}"
            seen[window] = count
    counts = counts_by_window(fed, size, grace)
    wrong = sorted(
        each for each in counts.keys() | seen.keys() if counts.get(each) != seen.get(each)
    )
    shown = [f"{each}: {seen.get(each)}, not {counts.get(each)}" for each in wrong[:3]]
    assert not wrong, f"{len(wrong)} windows end with other counts: {shown}"


def check_closed_by_silence(
    results: Outputs,
    late: Outputs,
    fed: Mapping[int, Sequence[Click]],
    size: int,
    grace: int,
    *,
    what: str,
) -> None:
    """Each click is in the one result of its window, or was late for it; none is missing.

    When silence closes windows is the clock's affair. But they close for good, all of a partition
    together, and in the order of start and key; and what stream time has closed stays closed. So
    there has to be one time that only rises by which all that was late was late, and nothing else.
    """
    for partition, clicks in fed.items():
        place = f"{what}, partition {partition}"
        numbers_of: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for key, at, number in clicks:
            numbers_of[at - at % size, key.encode()].append(number)
        taken: dict[tuple[int, bytes], int] = {}
        for output in results[partition]:
            key_bytes, start = window_of(output.key or b"")
            window = start, key_bytes
            numbers = json.loads(output.value or b"null")
            assert not taken or window > max(taken), f"{place}: {window} is out of order or twice"
            taken[window] = len(numbers)
            own = numbers_of[window][: len(numbers)]
            assert numbers == own, f"{place}: {window} has {numbers}, not {own}"
        missed = [int(output.value or b"") for output in late[partition]]
        assert missed == _check_one_time(clicks, taken, size, grace, place), f"{place}: late"


def _check_one_time(
    clicks: Sequence[Click],
    taken: Mapping[tuple[int, bytes], int],
    size: int,
    grace: int,
    place: str,
) -> list[int]:
    """Returns what has to be late where windows have taken so many of their clicks."""
    seen: Counter[tuple[int, bytes]] = Counter()
    late = []
    time = -1
    for key, at, number in clicks:
        window = at - at % size, key.encode()
        closes = window[0] + size + grace
        seen[window] += 1
        if seen[window] > taken.get(window, 0):
            late.append(number)
            time = max(time, closes)
            continue
        time = max(time, at)
        assert closes > time, f"{place}: click {number} of {key} at {at} was late, and is taken"
    return late


def check_chained(
    firsts: Outputs, seconds: Outputs, clicks: Iterable[Click], size: int, groups: int
) -> None:
    """Windows over the results of windows: each result once, in the window of its time.

    A result has the greatest time of its clicks. In which order those of several tasks come is
    nobody's promise.
    """
    at_of = {number: at for _, at, number in clicks}
    wanted: dict[tuple[bytes, int], list[list[int]]] = defaultdict(list)
    for records in firsts.values():
        for output in records:
            numbers = json.loads(output.value or b"null")
            at = max(at_of[number] for number in numbers)
            group = b"group-%d" % (numbers[0] % groups)
            wanted[group, at - at % size].append(numbers)
    found: dict[tuple[bytes, int], list[list[int]]] = {}
    for partition, records in seconds.items():
        windows = [window_of(output.key or b"") for output in records]
        order = [(start, key) for key, start in windows]
        assert order == sorted(set(order)), f"partition {partition}: twice, or out of order"
        for window, output in zip(windows, records, strict=True):
            assert window not in found, f"{window} is in two partitions"
            found[window] = json.loads(output.value or b"null")
    assert found.keys() == wanted.keys(), (
        f"not the same: {sorted(found.keys() ^ wanted.keys())[:5]}"
    )
    for window, lists in wanted.items():
        assert sorted(found[window]) == sorted(lists), f"{window}: {found[window]}, not {lists}"
