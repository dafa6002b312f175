"""The applications that are hurt: what is fed to each, and what must come of it.

A subject knows from the input alone what the outputs and the state have to be; nothing here asks
kstash.
"""

from __future__ import annotations

import json
import random
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

from tests.chaos import time_checks, window_checks
from tests.chaos.checkers import (
    Outputs,
    by_key,
    check_chains,
    check_counts,
    check_gathered,
    check_in_order,
    check_no_headers,
    check_same,
    read_committed,
    read_with_rule,
)
from tests.chaos.harness import Chaos, Record, place_of, values_by_key
from tests.chaos.time_checks import (
    check_chained,
    check_closed_by_silence,
    check_intervals,
    counts_by_window,
    last_counts,
)
from tests.chaos.window_checks import Click, Sent

VOCABULARY = [f"w{number:03}" for number in range(200)]
CHAINED_KINDS = ("firsts", "first-late", "seconds", "second-late")
SILENCE_RECORDS = 1_000
"""For so many records one partition gets nothing, and then the next one."""

KEYWORDS = ["UCB", "ucb", "weather", "UCB campus"]
CHAIN_KEYS = 40


class Subject(ABC):
    """One application with topics of its own, which no other test uses.

    Args:
        chaos: the run; gives the seed of the input.
        partition_count: of every topic.
        replicas: of every user topic.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    store: ClassVar[str]
    """That is compared with the last outputs; empty: none is."""

    input_names: ClassVar[tuple[str, ...]]
    stages_behind: ClassVar[tuple[str, ...]] = ()
    """Stages after a repartition topic."""

    rate: ClassVar[int]
    live_bytes_max: ClassVar[int] = 2 << 20
    """Of one internal topic: some seconds of input, and some checkpoints of a small state."""

    def __init__(self, chaos: Chaos, *, partition_count: int, replicas: int = 1) -> None:
        mark = uuid4().hex[:8]
        self.application_id = f"app-{mark}"
        self.inputs = tuple(f"{name}-{mark}" for name in self.input_names)
        self.output = f"output-{mark}"
        self.transactional_output: str | None = None
        # What the application is given as its output: a topic, or what its topics begin with.
        self.named = self.output
        self.partition_count = partition_count
        self.choice = random.Random(chaos.seed)
        chaos.create_topics(partition_count, *self.inputs, self.output, replicas=replicas)

    @property
    def compacted_topics(self) -> list[str]:
        """Topics of the application with one live record per key."""
        return [f"{self.application_id}-{name}" for name in ("lineage", "checkpoints")]

    @property
    def purged_topics(self) -> list[str]:
        """Topics of the application whose beginning is deleted from time to time."""
        return [f"{self.application_id}-{name}-repartition" for name in self.stages_behind]

    def options(self, checkpoint_interval_ms: int) -> list[str]:
        """The command line that every application gets."""
        named = [option for topic in self.inputs for option in ("--input", topic)]
        return [
            *("--application-id", self.application_id, *named, "--output", self.named),
            *("--checkpoint-interval-ms", str(checkpoint_interval_ms)),
        ]

    @abstractmethod
    def record(self, index: int) -> Record:
        """The next input; called with 0, 1, 2 and so on."""

    @abstractmethod
    def output_count(self, sent: Sequence[Record]) -> int:
        """How many outputs that input makes."""

    @abstractmethod
    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Whether these are all outputs of that input, once each and in order.

        Raises:
            AssertionError: they are not; names the key and where it went wrong.
        """

    def is_all_there(self, bootstrap: str, sent: Sequence[Record]) -> bool:
        """Whether the topics beside the first output have all that the input makes.

        Asked again and again while the workers run: what the clock decides comes last.
        """
        del bootstrap, sent
        return True

    def check_beside(self, bootstrap: str, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Whether the topics beside the first output hold what they must.

        Raises:
            AssertionError: they do not; names the topic.
        """
        del bootstrap, outputs, sent

    def last_outputs(self, outputs: Outputs) -> dict[str, Any]:
        """What the store must hold: the last output of each key."""
        return {key.decode(): json.loads(values[-1]) for key, values in by_key(outputs).items()}


class WordCount(Subject):
    """Two stages with a repartition topic between."""

    name = "word_count"
    module = "kstash.apps.word_count"
    store = "words"
    input_names = ("sentences",)
    stages_behind = ("words",)
    rate = 200

    def record(self, index: int) -> Record:
        """A sentence of eight words."""
        # The square makes some words frequent and some rare.
        chosen = [int(self.choice.random() ** 2 * len(VOCABULARY)) for _ in range(8)]
        text = " ".join(VOCABULARY[number] for number in chosen)
        return self.inputs[0], index % self.partition_count, None, text

    def expected(self, sent: Sequence[Record]) -> Counter[str]:
        """How often each word was sent."""
        return Counter(word for *_, line in sent for word in line.split())

    def output_count(self, sent: Sequence[Record]) -> int:
        """One for each word."""
        return self.expected(sent).total()

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Each word's outputs are 1, 2, 3 … n."""
        check_counts(outputs, self.expected(sent))


class KeywordCount(Subject):
    """Two inputs merged, a filter, one key."""

    name = "keyword_count"
    module = "kstash.apps.keyword_count"
    store = "queries"
    input_names = ("queries-1", "queries-2")
    stages_behind = ("queries",)
    rate = 1_000

    def record(self, index: int) -> Record:
        """A query, into both topics in turn."""
        value = json.dumps({"user_id": index, "keyword": self.choice.choice(KEYWORDS)})
        return self.inputs[index % 2], self.choice.randrange(self.partition_count), None, value

    def output_count(self, sent: Sequence[Record]) -> int:
        """One for each query of the keyword."""
        return sum(json.loads(value)["keyword"] == "UCB" for *_, value in sent)

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """The keyword's outputs are 1, 2, 3 … n over both topics."""
        check_counts(outputs, {"UCB": self.output_count(sent)})


class RollingHash(Subject):
    """Two inputs merged without a repartition topic: every output hangs on the order of all."""

    name = "rolling_hash"
    module = "tests.chaos.rolling_hash_app"
    store = "chains"
    input_names: ClassVar[tuple[str, ...]] = ("left", "right")
    rate = 500

    def record(self, index: int) -> Record:
        """A value that no other record has."""
        number = self.choice.randrange(CHAIN_KEYS)
        side = self.choice.randrange(2)
        key = f"key-{number}"
        # As every client does with a key: the same partition of both topics.
        place = place_of(key.encode(), self.partition_count)
        return self.inputs[side], place, key, f"{side}-{index}"

    def output_count(self, sent: Sequence[Record]) -> int:
        """One for each input."""
        return len(sent)

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Each key's outputs are one chain over some interleaving of both topics."""
        values = values_by_key(list(sent))
        check_chains(outputs, [values[topic] for topic in self.inputs])


class BothDeliveries(RollingHash):
    """The rolling hash with a second sink: the same outputs by transactional delivery."""

    name = "both_deliveries"

    def __init__(self, chaos: Chaos, *, partition_count: int, replicas: int = 1) -> None:
        super().__init__(chaos, partition_count=partition_count, replicas=replicas)
        self.transactional_output = f"transactional-{self.output}"
        chaos.create_topics(partition_count, self.transactional_output, replicas=replicas)

    def options(self, checkpoint_interval_ms: int) -> list[str]:
        """With the second output."""
        assert self.transactional_output is not None
        more = ["--transactional-output", self.transactional_output]
        return super().options(checkpoint_interval_ms) + more

    def check_beside(self, bootstrap: str, outputs: Outputs, sent: Sequence[Record]) -> None:
        """The other sink has the same outputs, in records without any sign of kstash."""
        assert self.transactional_output is not None
        plain = read_committed(bootstrap, self.transactional_output)
        self.check(plain, sent)
        check_same(outputs, plain)
        check_no_headers(plain)


class Windows(Subject):
    """All that goes by time over one topic, by records and by the clock, by both deliveries.

    For some seconds each, one partition after the other gets nothing.
    """

    name = "windows"
    module = "tests.chaos.timed_app"
    store = ""
    input_names = ("clicks",)
    rate = 500
    # Some thousands of windows, ids and timers are open at any time, in ten operators' stores.
    live_bytes_max = 4 << 20

    _BY_INPUT = ("late", "finals", "visits", *time_checks.TIMED_KINDS)
    _BY_CLOCK = ("intervals", "quiet", "missed", "gathered")
    _AT_ONCE = ("late", "once", "intervals", "missed", "gathered")

    def __init__(self, chaos: Chaos, *, partition_count: int, replicas: int = 1) -> None:
        super().__init__(chaos, partition_count=partition_count, replicas=replicas)
        # Results have the times of their windows: old ones the broker would delete.
        begin_ms = int(time.time() * 1000) - 48 * 3_600_000
        self._clicks = window_checks.clicks_of(self.choice, begin_ms, keys=400, jump_each=2_500)
        self.output = f"{self.named}-updates"
        beside = (f"{self.named}-{kind}" for kind in (*self._BY_INPUT, *self._BY_CLOCK))
        chaos.create_topics(partition_count, self.output, *beside, replicas=replicas)

    def record(self, index: int) -> Record:
        """A click, mostly out of order."""
        place = silent = index // SILENCE_RECORDS % self.partition_count
        while place == silent:
            key, at, number = next(self._clicks)
            place = place_of(key.encode(), self.partition_count)
        return self.inputs[0], place, key, json.dumps({"at": at, "n": number})

    def expected(self, sent: Sequence[Record]) -> dict[str, dict[int, list[Sent]]]:
        """What the input makes, by kind and partition."""
        return window_checks.all_kinds(clicks_by_partition(sent, self.partition_count))

    def output_count(self, sent: Sequence[Record]) -> int:
        """One for each click that was not late."""
        return sum(map(len, self.expected(sent)["updates"].values()))

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Each count of each window, in its place."""
        check_in_order(outputs, self.expected(sent)["updates"], "updates")

    def is_all_there(self, bootstrap: str, sent: Sequence[Record]) -> bool:
        """What the clock decides is the last to come."""
        gathered, quiet, missed, intervals = (
            read_committed(bootstrap, f"{self.named}-{kind}")
            for kind in ("gathered", "quiet", "missed", "intervals")
        )
        fed = clicks_by_partition(sent, self.partition_count)
        return (
            count_of(gathered) >= len(sent)
            and listed_in(quiet) + count_of(missed) >= len(sent)
            and last_counts(intervals) == counts_by_window(fed, 2_000, 500)
        )

    def check_beside(self, bootstrap: str, outputs: Outputs, sent: Sequence[Record]) -> None:
        """What goes by time once and in its place, and what goes by the clock as it may be."""
        del outputs
        fed = clicks_by_partition(sent, self.partition_count)
        expected = {**self.expected(sent), **time_checks.all_timed(fed)}
        found: dict[str, Outputs] = {}
        for kind in (*self._BY_INPUT, *self._BY_CLOCK):
            topic = f"{self.named}-{kind}"
            found[kind] = read_committed(bootstrap, topic)
            if kind in self._AT_ONCE:
                check_same(found[kind], read_with_rule(bootstrap, topic))
            else:
                check_no_headers(found[kind])
        for kind in self._BY_INPUT:
            assert any(expected[kind].values()), f"the input makes no {kind}"
            check_in_order(found[kind], expected[kind], kind)
        check_intervals(found["intervals"], fed, 2_000, 500)
        check_closed_by_silence(found["quiet"], found["missed"], fed, 3_000, 1_000, what="quiet")
        check_gathered(found["gathered"], numbers_by_key(sent))

    def last_outputs(self, outputs: Outputs) -> dict[str, Any]:
        """None: the order of all results shows what the state was."""
        del outputs
        return {}


class Watermark(Subject):
    """Two windows in a chain over a repartition, in watermark mode, by the clock's time.

    For some seconds each, one partition after the other gets nothing.
    """

    name = "watermark"
    module = "tests.chaos.watermark_app"
    store = ""
    input_names = ("clicks",)
    stages_behind = ("seconds",)
    rate = 300

    def __init__(self, chaos: Chaos, *, partition_count: int, replicas: int = 1) -> None:
        super().__init__(chaos, partition_count=partition_count, replicas=replicas)
        beside = (f"{self.named}-{kind}" for kind in CHAINED_KINDS)
        chaos.create_topics(partition_count, *beside, replicas=replicas)

    def record(self, index: int) -> Record:
        """A click of now or a little before."""
        at = int(time.time() * 1000) - self.choice.randrange(3_000 if index % 13 == 0 else 300)
        place = silent = index // SILENCE_RECORDS % self.partition_count
        while place == silent:
            key = f"key-{self.choice.randrange(100)}"
            place = place_of(key.encode(), self.partition_count)
        return self.inputs[0], place, key, json.dumps({"at": at, "n": index})

    def output_count(self, sent: Sequence[Record]) -> int:
        """One for each click."""
        return len(sent)

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Each key's outputs are 1, 2, 3 … n."""
        check_counts(outputs, Counter(str(key) for _, _, key, _ in sent))

    def is_all_there(self, bootstrap: str, sent: Sequence[Record]) -> bool:
        """Silence closes the last windows of both."""
        firsts, late, seconds = (
            read_committed(bootstrap, f"{self.named}-{kind}") for kind in CHAINED_KINDS[:3]
        )
        return listed_in(firsts) + count_of(late) >= len(sent) and listed_in(seconds) >= count_of(
            firsts
        )

    def check_beside(self, bootstrap: str, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Nothing is lost between the windows, nothing is late for the second, none comes twice."""
        del outputs
        fed = clicks_by_partition(sent, self.partition_count)
        firsts, late, seconds, second_late = (
            read_committed(bootstrap, f"{self.named}-{kind}") for kind in CHAINED_KINDS
        )
        check_same(late, read_with_rule(bootstrap, f"{self.named}-first-late"))
        check_no_headers(firsts)
        check_no_headers(seconds)
        assert not any(second_late.values()), f"late for the second windows: {second_late}"
        check_closed_by_silence(firsts, late, fed, 1_000, 500, what="firsts")
        clicks = [click for place in fed.values() for click in place]
        check_chained(firsts, seconds, clicks, 2_000, 5)

    def last_outputs(self, outputs: Outputs) -> dict[str, Any]:
        """None: the results of all windows show what the state was."""
        del outputs
        return {}


class Timing(BothDeliveries):
    """Values that leave when the wall clock says so, with times and ids; both deliveries."""

    name = "timing"
    module = "tests.chaos.timing_app"
    store = ""
    input_names = ("values",)

    def record(self, index: int) -> Record:
        """A value that no other record has."""
        key = f"key-{self.choice.randrange(CHAIN_KEYS)}"
        place = place_of(key.encode(), self.partition_count)
        return self.inputs[0], place, key, f"value-{index}"

    def check(self, outputs: Outputs, sent: Sequence[Record]) -> None:
        """Each key's values leave once and in order, and clock and ids are of one history."""
        check_gathered(outputs, values_by_key(list(sent))[self.inputs[0]])


def clicks_by_partition(sent: Sequence[Record], partition_count: int) -> dict[int, list[Click]]:
    """Clicks as the partitions have them."""
    fed: dict[int, list[Click]] = {place: [] for place in range(partition_count)}
    for _, place, key, value in sent:
        click = json.loads(value)
        fed[place].append((str(key), click["at"], click["n"]))
    return fed


def numbers_by_key(sent: Sequence[Record]) -> dict[str, list[int]]:
    """The numbers of each key's clicks."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for _, _, key, value in sent:
        numbers[str(key)].append(json.loads(value)["n"])
    return numbers


def count_of(outputs: Outputs) -> int:
    """How many there are."""
    return sum(map(len, outputs.values()))


def listed_in(outputs: Outputs) -> int:
    """How many are in the lists that these are."""
    return sum(len(json.loads(each.value or b"[]")) for found in outputs.values() for each in found)


SUBJECTS: tuple[type[Subject], ...] = (
    WordCount,
    KeywordCount,
    BothDeliveries,
    Windows,
    Timing,
    Watermark,
)
"""What storms go over: one or two hops, one or two inputs, both deliveries, windows, the clock."""
