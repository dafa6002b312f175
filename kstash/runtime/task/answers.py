"""What operators ask while events are processed: the time, and chance. It is logged with them.

The events of a run, of a merged batch, or a tick have one reading of the clock and one seed, each
an attachment of the first of them, and only where it was asked for. Events that leave work are
given both with their first part: what asks later finds them there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b

from kstash.core.determinants import CLOCK, SEED, Attachment
from kstash.core.replay import Replay
from kstash.runtime.task.under_way import UnderWay
from kstash.topology.model import Stage

SEED_BYTES = 16


class EventAnswers:
    """`kstash.operators.step.Outside` of one task.

    Args:
        replay: of the task: what the history says.
        nonce: gives 16 fresh random bytes a call.
        stage: of the task: whether any operator asks.
    """

    def __init__(self, replay: Replay, nonce: Callable[[], bytes], stage: Stage) -> None:
        self.clock: Callable[[], int]  # of a live task
        self._replay = replay
        self._nonce = nonce
        self._may_ask = any(node.asks for node in stage.nodes)
        self._at = -1
        self._is_new = False
        self._tick_ms: int | None = None
        self._now_ms: int | None = None
        self._seed: bytes | None = None
        self._draws: Counter[str] = Counter()

    def begin(self, events: UnderWay, position: int) -> None:
        """Events begin, of which the first has this position."""
        at = position if events.run is None else events.run
        if at == self._at:
            return  # more of a run, in a replay
        self._at, self._is_new, self._tick_ms = at, events.is_new, events.tick_ms
        self._now_ms = self._seed = None
        self._draws.clear()

    def attached(self, events: UnderWay) -> tuple[Attachment, ...]:
        """What the lineage says of what new events have asked; it has what others did already.

        If they are not over, they might ask for more when it has left: they are given all now.
        """
        if not (self._may_ask and self._is_new):
            return ()
        if not events.is_over:
            self._ask_all()
        found: list[Attachment] = []
        if self._now_ms is not None:
            found.append(Attachment(self._at, 0, 0, CLOCK, self._now_ms.to_bytes(8, "big")))
        if self._seed is not None:
            found.append(Attachment(self._at, 0, 1, SEED, self._seed))
        return tuple(found)

    def now_ms(self) -> int:
        """The wall time."""
        if self._tick_ms is not None:
            return self._tick_ms
        if self._now_ms is None:
            if self._is_new:
                self._now_ms = self.clock()
            else:
                said = self._replay.attachment(self._at, 0, 0, CLOCK)
                self._now_ms = int.from_bytes(said, "big")
        return self._now_ms

    def draw(self, operator: str) -> bytes:
        """16 random bytes for an operator."""
        if self._seed is None:
            is_new = self._is_new
            self._seed = self._nonce() if is_new else self._replay.attachment(self._at, 0, 1, SEED)
        self._draws[operator] += 1
        number = self._draws[operator]
        named = b"%d %b" % (number, operator.encode())
        return blake2b(named, digest_size=SEED_BYTES, key=self._seed).digest()

    def undraw(self, operator: str, count: int) -> None:
        """The operator's last draws do not count."""
        self._draws[operator] -= count

    def _ask_all(self) -> None:
        self.now_ms()
        if self._seed is None:
            self._seed = self._nonce()
