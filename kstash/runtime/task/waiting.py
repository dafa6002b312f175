"""Consumed records of one input that wait for their turn, by number and by bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, takewhile

from kstash.errors import RecordUnreadableError
from kstash.ports.kafka import Message
from kstash.runtime.headers import readable_headers

RECORDS_HIGH, RECORDS_LOW = 4_000, 1_000
"""Records of one input that wait, above which it is paused, and resumed below."""

BYTES_HIGH, BYTES_LOW = 4 * 1024 * 1024, 1024 * 1024
"""The same in bytes: what one poll brings (32 MiB at most) may come on top."""

BATCH_BYTES = 512 * 1024
"""Keys, values and headers that a batch is made of, or a single record (a frame) that is larger:
what a function makes of them is in memory at once."""


class Waiting:
    """A queue in the order of the log."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    @property
    def first_offset(self) -> int | None:
        """Offset of the record whose turn is next."""
        return self._messages[0].offset() if self._messages else None

    @property
    def first_timestamp_ms(self) -> int | None:
        """Unix milliseconds of that record; 0 or less when it has no timestamp."""
        return self._messages[0].timestamp()[1] if self._messages else None

    @property
    def is_much(self) -> bool:
        """Whether no more should be fetched."""
        return len(self._messages) > RECORDS_HIGH or self._bytes > BYTES_HIGH

    @property
    def is_little(self) -> bool:
        """Whether more may be fetched again."""
        return len(self._messages) < RECORDS_LOW and self._bytes < BYTES_LOW

    def extend(self, messages: Sequence[Message]) -> None:
        """Let these wait too, which come after all that wait."""
        if self._messages and messages:
            assert messages[0].offset() > self._messages[-1].offset(), "handed out out of order"
        sizes = sizes_of(messages)
        self._messages.extend(messages)
        self._sizes.extend(sizes)
        self._bytes += sum(sizes)

    def batch(self, count: int) -> int:
        """How many of the first `count` records go into one batch by their bytes: at least one."""
        if self._bytes <= BATCH_BYTES:
            return min(count, len(self._messages))
        totals = accumulate(islice(self._sizes, count))
        return max(1, sum(1 for _ in takewhile(BATCH_BYTES.__ge__, totals)))

    def take(self, count: int) -> list[Message]:
        """The first `count` records, which wait no more."""
        self._bytes -= sum(self._sizes.popleft() for _ in range(count))
        return [self._messages.popleft() for _ in range(count)]

    def drop_before(self, offset: int) -> None:
        """Forget those below an offset."""
        while self._messages and self._messages[0].offset() < offset:
            self.take(1)

    def keep(self, count: int) -> None:
        """Forget those after the first `count`."""
        while len(self._messages) > count:
            self._messages.pop()
            self._bytes -= self._sizes.pop()


def sizes_of(messages: Sequence[Message]) -> list[int]:
    """Bytes of each record's key, value and headers."""
    sizes = [len(message.value() or b"") + len(message.key() or b"") for message in messages]
    try:
        headers = [message.headers() for message in messages]
    except RecordUnreadableError:
        headers = list(map(readable_headers, messages))
    if any(headers):
        for index, items in enumerate(headers):
            sizes[index] += sum(len(name) + len(content or b"") for name, content in items or ())
    return sizes
