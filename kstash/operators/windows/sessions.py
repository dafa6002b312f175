"""Session windows: the records of a key with at most a gap between them, from first to last.

All open sessions of a key are one entry of a store. Beside it a queue has each open session once,
at its end and start or *before* them: a session that grows stays where it is in the queue, and is
put at its place only when its turn would come (decision 0075).

Invariants, between two records:

- a session in the store is open: the time is at most its end + gap + grace;
- the sessions of a key stand in the order of their starts, with more than the gap between them;
- each stands in the queue once, at a place that is not after its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from kstash.operators.flow import Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope
from kstash.operators.windows.single import NewState
from kstash.operators.windows.unaligned import Part, Unaligned
from kstash.topology.session_nodes import Session, SessionFold
from kstash.topology.window_places import Place
from kstash.topology.windowed import encode_session

_start, _end = attrgetter("start_ms"), attrgetter("end_ms")


class SessionWindows(Unaligned[NewState]):
    """A fold of each session.

    Args:
        node: the windows.
        column_fold: the fold.
    """

    def __init__(self, node: SessionFold, column_fold: ColumnFold) -> None:
        self.gap_ms: int = node.windows.gap_ms
        super().__init__(node, column_fold, self.gap_ms)

    def begin(self, keys: list[bytes], flow: Flow, scope: Scope) -> _Sessions:
        """A run over the records of a flow."""
        return _Sessions(self, keys, flow, scope=scope)


class _Sessions(Part[NewState]):
    """A run over the records of a flow."""

    def __init__(
        self, logic: SessionWindows, keys: list[bytes], flow: Flow, *, scope: Scope
    ) -> None:
        super().__init__(logic, keys, flow, scope=scope)
        self.logic = logic

    # --- records --------------------------------------------------------------------------------

    def take_records(
        self, records: Iterator[tuple[bytes, Any, int, int]], made: NewState | None
    ) -> NewState | None:
        """Put each into its session."""
        live, queue, results = self.live, self.queue, self.results
        open_ms, apart = self.logic.open_ms, self.scope.may_skip
        for key, value, timestamp, time in records:
            self.at += 1
            now = max(self.now, time)
            near = self._near(live.get(key), timestamp, now - open_ms)
            if not near and timestamp < now - open_ms:
                results.add_late(self.at, ((timestamp, timestamp),))
            else:
                if made is None:
                    states = [session.state for session in near]
                    made = self.fold.add(states, value, self.at, apart=apart)
                # The user's code has returned: from here on the record counts.
                self.now = now
                if queue.is_due(now - open_ms):
                    self.close(now - open_ms)
                    if queue.is_blocked:
                        results.end_record()
                        return made
                self._apply(key, near, timestamp, made)
                made = None
            results.end_record()
        return None

    def _near(self, sessions: list[Session] | None, timestamp: int, horizon: int) -> list[Session]:
        """The open ones of a key's sessions to which a record belongs: two at most."""
        if sessions is None:
            return []
        lowest = max(timestamp - self.logic.gap_ms, horizon)
        last = sessions[-1]
        if timestamp >= last.start_ms:  # as a rule; the others end more than the gap before
            return [last] if last.end_ms >= lowest else []
        first = bisect_left(sessions, lowest, key=_end)
        highest = timestamp + self.logic.gap_ms
        return sessions[first : bisect_right(sessions, highest, first, key=_start)]

    def _apply(self, key: bytes, near: list[Session], timestamp: int, made: NewState) -> None:
        """Make one session of those near a record and of itself, or none if it has no state."""
        start = end = timestamp
        if near:
            start, end = min(start, near[0].start_ms), max(end, near[-1].end_ms)
        if not self.logic.is_final:
            for session in near:
                if made.state is None or (session.start_ms, session.end_ms) != (start, end):
                    self._send(key, session, None, self.now, was_there=True)
        for session in near if made.state is None else near[1:]:
            self.queue.remove(_queued(key, session))
            self._forget(key, session)
        if made.state is None:
            return
        was_there = self.logic.unsent is not None and any(
            (each.start_ms, each.end_ms) == (start, end) for each in near
        )
        if near:
            session = near[0]
            before = _queued(key, session)
            session.start_ms, session.end_ms, session.state = start, end, made.state
            if (end, start, key) < before:
                self.queue.remove(before)
                self._queue(key, session)
        else:
            session = Session(start, end, end, start, made.state)
            sessions = self.live.get(key)
            if sessions is None:
                self.live[key] = [session]
            else:
                insort(sessions, session, key=_start)
            self._queue(key, session)
        self.last = max(self.last, session.end_ms)
        self.made.append(made.state)
        self.makers.append(self.at)
        if not self.logic.is_final:
            self._send(key, session, made.sent, self.now, was_there=was_there)

    def _send(
        self, key: bytes, session: Session, state: Any, time: int, *, was_there: bool
    ) -> None:
        window = encode_session(key, session.start_ms, session.end_ms)
        self.results.add(window, state, session.end_ms, time, was_there=was_there)

    # --- closing --------------------------------------------------------------------------------

    def close(self, horizon: int) -> None:
        """Close the sessions that end before, in their order."""
        queue = self.queue
        while (place := queue.take(horizon)) is not None:
            end, start, key = place
            session = self._standing_at(place)
            if session is None:
                continue
            if (session.end_ms, session.start_ms) != (end, start):
                self._queue(key, session)
                continue
            self._forget(key, session)
            if self.logic.is_final:
                # Time steps to where the session closes. Less what the operator holds back, that
                # is its end.
                self._send(key, session, session.state, end, was_there=True)

    def _standing_at(self, place: Place) -> Session | None:
        """The session that stands there in the queue, unless it was removed."""
        end, start, key = place
        sessions: list[Session] = self.live.get(key) or []
        for session in sessions:
            if session.queued_end_ms == end and session.queued_start_ms == start:
                return session
        return None

    def _queue(self, key: bytes, session: Session) -> None:
        """Put a session where it belongs."""
        session.queued_end_ms, session.queued_start_ms = session.end_ms, session.start_ms
        self.queue.put(_queued(key, session))

    def _forget(self, key: bytes, session: Session) -> None:
        sessions: list[Session] = self.live[key]
        if len(sessions) == 1:
            self.live[key] = None
        else:
            del sessions[bisect_left(sessions, session.start_ms, key=_start)]


def _queued(key: bytes, session: Session) -> Place:
    """Where it stands in the queue."""
    return session.queued_end_ms, session.queued_start_ms, key
