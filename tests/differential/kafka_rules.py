"""Where Kafka Streams goes by another rule than the design: each as a change of the model.

`differences.md` gives the reasons. A case that is marked with one of these names is answered by
Kafka Streams as the model answers it with this one rule, and not without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.differential.reference import (
    FOLDS,
    KINDS,
    Aligned,
    Chain,
    Operator,
    Record,
    Result,
    Session,
    Sliding,
    Value,
    Window,
)

Kinds = dict[str, type[Operator]]
Taken = tuple[int, int | None]
"""A record in a window: timestamp and value."""


def folded_with_nulls(name: str, values: list[Any]) -> Value:
    """A fold whose function is shown nulls: the judge's number folds leave the number as it is."""
    numbers = [value for value in values if value is not None]
    if name in ("min", "max", "reduce") and not numbers:
        return None
    return FOLDS[name](values if name in ("count", "list") else numbers)


class NullsInAligned(Aligned):
    """A null value goes to every fold; where a null comes out, the window is gone."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.fold = lambda values: folded_with_nulls(spec["fold"], values)

    def takes_null_values(self) -> bool:
        """Always."""
        return True

    def put(self, record: Record, key: str) -> list[Result]:
        """A reduction of a null alone is deleted."""
        sent = super().put(record, key)
        self.windows = [w for w in self.windows if self.fold([v for _, v in w.taken]) is not None]
        return sent


class NullsInSessions(Session):
    """The same for sessions."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.fold = lambda values: folded_with_nulls(spec["fold"], values)

    def takes_null_values(self) -> bool:
        """Always."""
        return True

    def put(self, record: Record, key: str) -> list[Result]:
        """A reduction of a null alone is deleted."""
        sent = super().put(record, key)
        self.windows = [w for w in self.windows if self.fold([v for _, v in w.taken]) is not None]
        return sent


class NullForUnchangedSession(Session):
    """A session is taken back before its new value, unless it has one timestamp only."""

    def swallowed(self, window: Window, merged: Window, record: Record) -> bool:  # noqa: ARG002
        """By the new record's own window instead of the old session's."""
        return (merged.start, merged.end) != (record.timestamp, record.timestamp)


class SessionsCloseByKey(Session):
    """Sessions that close together leave in the order (end, key, start)."""

    def closing_order(self, window: Window | Result) -> tuple[Any, ...]:
        """By the bytes of the windowed key, in which the key stands first."""
        return window.end, window.key.encode(), window.start


class OpenSessionsForgotten(Session):
    """A store whose retention is the gap and grace, the usual one, forgets a millisecond early."""

    def mergeable(self, window: Window, time: int) -> bool:
        """Not in the last millisecond in which the session is open."""
        return not self.closed(window.end, time + 1)


class ClosedSessionsMerge(Session):
    """A store with a longer retention still gives closed sessions back."""

    def mergeable(self, window: Window, time: int) -> bool:  # noqa: ARG002
        """All that the store has."""
        return True


class Suppressed(Operator):
    """Final results by suppress, which keeps the last update of each window.

    It lets go what ends by its time less grace (and gap); until then the operator takes records.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.by_suppress = self.final
        self.final = False
        self.time_of_suppress = -1
        self.kept: dict[tuple[str, int, int], Result] = {}

    def take(self, record: Record) -> list[Result]:
        """Each update goes to suppress at once."""
        updates = super().take(record)
        if not self.by_suppress:
            return updates
        return [
            result for update in self.in_order(updates, record) for result in self.let_go(update)
        ]

    def let_go(self, update: Result) -> list[Result]:
        """Keep an update; what suppress then sends."""
        wait = self.closing_time(0) - 1
        self.time_of_suppress = max(self.time_of_suppress, update.timestamp)
        self.kept[update.key, update.start, update.end] = update
        due = [kept for kept in self.kept.values() if kept.end <= self.time_of_suppress - wait]
        due.sort(key=self.closing_order)
        for kept in due:
            del self.kept[kept.key, kept.start, kept.end]
        return [kept for kept in due if kept.value is not None]

    def in_order(self, updates: list[Result], record: Record) -> list[Result]:  # noqa: ARG002
        """The updates of one record, in Kafka Streams' order."""
        return updates


class SuppressedSessions(Suppressed, Session):
    """A session takes records until its end + gap + grace."""


class SuppressedSliding(Suppressed, Sliding):
    """A sliding window takes records until its end + grace."""

    def take(self, record: Record) -> list[Result]:
        """Which windows are there decides about the order of the updates."""
        self.there = {window.start for window in self.windows if window.key == record.key}
        return super().take(record)

    def in_order(self, updates: list[Result], record: Record) -> list[Result]:
        """Windows that were there, from the last on; behind its predecessor; its own; behind it."""
        left = record.timestamp - self.size

        def order(update: Result) -> tuple[int, int]:
            """With an early record: there, from the first on; the new ones; [0, size]."""
            there = update.start in self.there
            if left < 0:
                behind = 1 if update.start > record.timestamp else 2
                return (0 if there else behind, update.start) if update.start else (3, 0)
            if there:
                return 0, -update.start
            return 1 if left < update.start <= record.timestamp else 2, update.start

        return sorted(updates, key=order)


class ForgetfulSliding(Sliding):
    """A record for which no window is open yet leaves no trace for those still to come."""

    def put(self, record: Record, key: str) -> list[Result]:
        """Records are known by the windows that they are in."""
        sent = super().put(record, key)
        if not any(
            window.start <= record.timestamp <= window.end
            for window in self.windows
            if window.key == key and not self.closed(window.end, self.time)
        ):
            self.taken[key].pop()
        return sent


class SlidingTwice(Sliding):
    """A window that ends at a record and begins behind the one before it is made for both."""

    def put(self, record: Record, key: str) -> list[Result]:
        """The same result twice, or counted twice as missed."""
        before = [timestamp for timestamp, _ in self.taken.get(key, ())]
        left = record.timestamp - self.size
        seen = any(  # it looks back by twice the size, and knows records by windows only
            window.key == key and left - self.size <= window.start < left <= window.end + 1
            for window in self.windows
        )
        sent = super().put(record, key)
        lone = not any(left <= timestamp <= record.timestamp for timestamp in before)
        if not (seen and lone and left - 1 in before):
            return sent
        if self.closed(record.timestamp, self.time):
            self.pairs_missed += 1
            return sent
        return [again for r in sent for again in ([r, r] if r.start == left else [r])]


class CopiedSliding(Sliding):
    """Windows are all that is kept: a new one begins with what the one before it holds.

    The steps are those of Kafka Streams' own operator, over a store that is read backwards.
    """

    def put(self, record: Record, key: str) -> list[Result]:
        """The windows around the record, from the last on; then those that begin with it."""
        self.taken.setdefault(key, []).append((record.timestamp, record.value))
        at, left = record.timestamp, record.timestamp - self.size
        if left < 0:
            return self.put_early(record, key)
        found = {w.start: w for w in self.windows if w.key == key}
        sent: list[Result] = []
        around = [s for s in sorted(found, reverse=True) if left <= s <= at]
        later = self.copied(found[around[0]]) if around and around[0] > left else []
        before = [s for s in sorted(found) if max(0, left - self.size) <= s < left]
        for start in around:
            is_there_after = start == left and found[start].timestamp >= at
            earlier = found[start].timestamp if start == left else None
            sent += self.update(key, start, self.copied(found[start]), record)
            if is_there_after:
                return sent
            if earlier is not None:
                before = []
                sent += self.after_previous(earlier, found, record, key)
        if before:
            previous = found[before[-1]].timestamp
            copy = self.copied(found[before[-1]]) if previous >= left else []
            sent += self.after_previous(previous, found, record, key)
        else:
            copy = []
        if left not in found:
            sent += self.update(key, left, copy, record)
        return sent + self.after_record(later, found, record, key)

    def put_early(self, record: Record, key: str) -> list[Result]:
        """[0, size] holds all early records, and is asked last."""
        found = {w.start: w for w in self.windows if w.key == key}
        zero, sent = found.get(0), list[Result]()
        around = [start for start in sorted(found) if 0 < start <= record.timestamp]
        later = self.copied(found[around[-1]]) if around else []
        held = self.copied(zero) if zero else []
        for start in around:
            sent += self.update(key, start, self.copied(found[start]), record)
        if not around and zero and zero.timestamp > record.timestamp:
            later = held
        sent += self.after_record(later, found, record, key)
        if zero and zero.timestamp < record.timestamp and zero.timestamp + 1 not in found:
            sent += self.update(key, zero.timestamp + 1, [], record)
        return sent + self.update(key, 0, held, record)

    def after_previous(
        self, previous: int, found: dict[int, Window], record: Record, key: str
    ) -> list[Result]:
        """The window after the record before, with the record alone."""
        start = previous + 1
        if start in found or start + self.size < record.timestamp:
            return []
        return self.update(key, start, [], record)

    def after_record(
        self, later: list[Taken], found: dict[int, Window], record: Record, key: str
    ) -> list[Result]:
        """The window after the record, with what a younger window around it holds."""
        start = record.timestamp + 1
        if start in found or max((t for t, _ in later), default=-1) <= record.timestamp:
            return []
        return self.changed(self.stored(key, start, later))

    def update(self, key: str, start: int, held: list[Taken], record: Record) -> list[Result]:
        """Store a window with the record, unless it is closed."""
        if self.closed(start + self.size, self.time):
            self.pairs_missed += 1
            return []
        taken = [*held, (record.timestamp, record.value)]
        return self.changed(self.stored(key, start, taken))

    def stored(self, key: str, start: int, taken: list[Taken]) -> Window:
        """The window of that start, made where there is none, with what it now holds."""
        window = self.window(key, start, start + self.size)
        if window is None:
            window = Window(key, start, start + self.size)
            self.windows.append(window)
        window.taken = taken
        return window

    def copied(self, window: Window) -> list[Taken]:
        """What a window holds."""
        return list(window.taken)


class LostAfterGap(Aligned):
    """Windows that the store has forgotten when time jumps over them give no final result."""

    def close(self) -> list[Result]:
        """A store in memory keeps size + grace behind the newest window's start."""
        newest = self.time - self.time % self.advance
        return [r for r in super().close() if r.start > newest - self.size - self.grace]


class SessionsLostAfterGap(Session):
    """The same for sessions, of which a store keeps gap + grace + 1 ms behind the newest end."""

    def close(self) -> list[Result]:
        """All that are closed are forgotten when the new session is stored."""
        super().close()
        return []


class TimeByTimestamp(Chain):
    """Results carry no time but their timestamps into the next operator."""

    def passed(self, spec: dict[str, Any], result: Result) -> Record:
        """As behind a repartition."""
        return super().passed(spec | {"between": "repartition"}, result)


class TimeForgotten(Chain):
    """Stream time is not state."""

    def restart(self) -> None:
        """It begins again at nothing."""
        for operator in self.operators:
            operator.time = -1


def kinds_with(names: Sequence[str]) -> Kinds:
    """The kinds of windows, changed by the rules with these names."""
    changes = [change for name in names for change in RULES[name] if not issubclass(change, Chain)]
    kinds: Kinds = {}
    for name, plain in KINDS.items():
        bases = [change for change in changes if issubclass(change, plain)]
        kinds[name] = type(plain.__name__, (*bases, plain), {})
    return kinds


def kafka_chain(specs: list[dict[str, Any]], names: Sequence[str]) -> Chain:
    """The model by the rules with these names."""
    chains = [change for name in names for change in RULES[name] if issubclass(change, Chain)]
    built: type[Chain] = type("KafkaChain", (*chains, Chain), {})
    return built(specs, kinds_with(names))


RULES: dict[str, tuple[type[Operator] | type[Chain], ...]] = {
    "suppress lets go a millisecond early": (SuppressedSessions, SuppressedSliding),
    "null values are folded": (NullsInAligned, NullsInSessions),
    "null for an unchanged session": (NullForUnchangedSession,),
    "sessions close by key": (SessionsCloseByKey,),
    "sliding windows forget": (ForgetfulSliding,),
    "sliding windows made twice": (SlidingTwice,),
    "closed sessions merge": (ClosedSessionsMerge,),
    "open sessions are forgotten": (OpenSessionsForgotten,),
    "finals are lost after a gap": (LostAfterGap, SessionsLostAfterGap),
    "time is the timestamp": (TimeByTimestamp,),
    "time is forgotten": (TimeForgotten,),
    "sliding windows are copied": (CopiedSliding,),
}
"""Each difference by name: what is changed of the kinds of windows, or of the chain."""
