"""What is measured: a program under a guarantee."""

from __future__ import annotations

from dataclasses import dataclass

PARTITIONS = 4
GUARANTEES = ("exactly_once", "write_first", "at_least_once", "none")
WATERMARK = "tumbling count by watermark"
EVEN_WORDS = 100_000
EVEN = f"session count of {EVEN_WORDS} words"
"""Its words are all as frequent."""

WINDOWED = ("tumbling count", "hopping count", "session count", EVEN, WATERMARK)
"""The word count by windows; the first word is the kind of these."""

BARE = "bare client"
PEER = "Kafka Streams"
"""The same count on Kafka Streams, exactly_once_v2; see `benchmarks.peers`."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        program: `word count`, one of `WINDOWED`, `rolling hash` or `hops`.
        guarantee: one of `GUARANTEES`, or `BARE`: a loop over the client, no fault tolerance; or
            `PEER`: another system.
        ack_delay_ms: by which the worker sees acknowledgements of lineage late.
    """

    program: str
    guarantee: str
    ack_delay_ms: int = 0

    def __str__(self) -> str:
        delay = f" +{self.ack_delay_ms} ms" if self.ack_delay_ms else ""
        return f"{self.program}, {self.guarantee}{delay}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input topics, before a suffix."""
        return ("sentences",) if self.counts_words else ("left", "right")

    @property
    def words(self) -> int | None:
        """How many words its sentences are of, all as frequent; None: words as in a text."""
        return EVEN_WORDS if self.program == EVEN else None

    @property
    def counts_words(self) -> bool:
        """Whether it reads sentences."""
        return self.program == "word count" or self.program in WINDOWED
