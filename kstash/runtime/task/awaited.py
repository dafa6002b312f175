"""Whether a task that merges by time waits for an input that has nothing (protocol, section 3).

An input that is known to have more is waited for, however long that takes: its next record may
come before all that waits of the others. One that is at its end is waited for a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

WAIT_FOR_NONE = -1
"""As `task_idle_ms`: no input is waited for."""


class Awaited:
    """The inputs that one live task waits for.

    Args:
        idle_ms: how long an input at its end is waited for, in ms; `WAIT_FOR_NONE`: none is.
        is_at_end: whether all that the broker had of an input, when it was last asked, was read.
        now: monotonic seconds; the task goes live now.
        inputs: their indices.
        run_has_more: of a bounded run, whether it has more of an input: that is known then, whether
            it is in the log yet or not.

    Attributes:
        since: by input that is waited for, the monotonic seconds since when others have records.
        is_patient: whether nothing but time will end the wait, as far as is known: no input that is
            waited for has a record that could be fetched.
    """

    def __init__(
        self,
        *,
        idle_ms: int,
        is_at_end: Callable[[int], bool],
        now: float,
        inputs: Collection[int],
        run_has_more: Callable[[int], bool] | None = None,
    ) -> None:
        self.since: dict[int, float] = {}
        self.is_patient = False
        self._run_has_more = run_has_more
        self._idle_ms = idle_ms
        self._is_at_end = is_at_end
        # When each had its last record.
        self._used_up = dict.fromkeys(inputs, now)

    def took(self, source: int, now: float) -> None:
        """Records of an input were taken."""
        self._used_up[source] = now

    def will_have(self, source: int) -> bool:
        """Whether an input that has records is waited for once they are used up."""
        if self._idle_ms < 0:
            return False
        if self._run_has_more is not None:
            return self._run_has_more(source)
        return self._idle_ms > 0 or not self._is_at_end(source)

    def will_bring(self, source: int) -> bool:
        """Whether an input that is waited for has more, by what is known now."""
        return self._run_has_more is not None or not self._is_at_end(source)

    def look(self, empty: Collection[int], now: float) -> bool:
        """Note which inputs are waited for; returns whether any is.

        Args:
            empty: inputs without a record, while another has one.
            now: monotonic seconds.
        """
        waits = [source for source in empty if self._waits_for(source, now)]
        self.since = {source: self.since.get(source, now) for source in waits}
        self.is_patient = bool(waits) and all(map(self._is_at_end, waits))
        return bool(waits)

    def _waits_for(self, source: int, now: float) -> bool:
        if self._idle_ms < 0:
            return False
        if self._run_has_more is not None:
            return self._run_has_more(source)
        if not self._is_at_end(source):
            return True
        return now < self._used_up[source] + self._idle_ms / 1000
