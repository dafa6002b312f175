"""Windows over several topics, read at any speeds and killed anywhere, are those of one merge."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

import kstash
from kstash import App
from kstash.core.merge import MergeOrder
from kstash.testing import TestDriver

TIMES = st.lists(st.integers(1, 40), max_size=14)
KILLS_MAX = 4
SIZE_MS = 10


class Chained(kstash.Processor[str, str, str]):
    """Sends a hash of all that came before, and of the record: it knows any other order."""

    last = kstash.Value("last", kstash.int_text)

    def on_record(self, record: kstash.Record, context: kstash.Context[str, str]) -> None:
        """One after the other."""
        state = (self.last.get(7) * 31 + int.from_bytes(record.value.encode(), "big")) % 1_000_003
        self.last.set(state)
        context.send(f"{record.value} {state}")


def program(interval_ms: int) -> App:
    """Two user topics, and one that comes through an internal topic; which time its values say."""
    app = App("merges", checkpoint_interval_ms=interval_ms)
    a, b = (app.stream(topic, key=kstash.text, value=kstash.text) for topic in "ab")
    c = app.stream(
        "c", key=kstash.text, value=kstash.text, timestamp=lambda value: int(value.split("/")[1])
    )
    merged = a.merge(b.repartition("spread"), c)
    merged.process("chained", Chained, value=kstash.text).to("order")
    windows = kstash.tumbling(timedelta(milliseconds=SIZE_MS))
    merged.window(windows, emit="final").count("counts").to("counts", value=kstash.int_text)
    return app


def merged_values(app: App, logs: dict[str, list[int]]) -> list[str]:
    """All that the topics hold, by one merge."""
    (stage,) = [stage for stage in app.topology().stages if stage.merges]
    names = ["b" if source.internal else source.topic for source in stage.inputs]
    order = MergeOrder({index: logs[name] for index, name in enumerate(names)}, {}).take(1_000)
    taken = dict.fromkeys(names, 0)
    made = []
    for index in order:
        name = names[index]
        made.append(f"{name}{taken[name]}/{logs[name][taken[name]]}")
        taken[name] += 1
    return made


def chained(values: list[str]) -> list[str]:
    """What the processor sends."""
    state, made = 7, []
    for value in values:
        state = (state * 31 + int.from_bytes(value.encode(), "big")) % 1_000_003
        made.append(f"{value} {state}")
    return made


def closed(values: list[str]) -> list[tuple[int, int]]:
    """Windows that are closed in the end: when each starts, and what was not late for it."""
    counts: Counter[int] = Counter()
    now = 0
    for value in values:
        time = int(value.split("/")[1])
        start = time // SIZE_MS * SIZE_MS
        counts[start] += start + SIZE_MS > now
        now = max(now, time)
    return sorted((start, n) for start, n in counts.items() if n and start + SIZE_MS <= now)


@settings(max_examples=25)
@given(TIMES, TIMES, TIMES, st.integers(0, 1 << 32).map(Random))
def test_the_result_is_that_of_one_merge(
    a: list[int], b: list[int], c: list[int], rng: Random
) -> None:
    """A bounded run, which is killed between any two steps."""
    app, logs = program(rng.choice([100, 10_000])), {"a": a, "b": b, "c": c}
    with TestDriver(app, lineage_delay_s=rng.choice([0.0, 0.3])) as driver:
        driver.close()
        for topic, times in logs.items():
            for number, time in enumerate(times):
                # A Kafka record of `c` tells nothing of when.
                stamp = 10_000 - number if topic == "c" else time
                driver.send(topic, f"{topic}{number}/{time}", "k", timestamp_ms=stamp)
        kills = rng.randrange(KILLS_MAX)
        while True:
            driver.kafka.poll_max = rng.choice([1, 3, 500])
            driver.kafka.fetch_max = rng.choice([1, 2, 500])
            driver.rig.start(until="end")
            steps = rng.randrange(60) if kills else 10_000
            while steps and not driver.rig.worker.is_done:
                driver.clock.advance(0.05)
                driver.rig.worker.step(0.0)
                steps -= 1
            if driver.rig.worker.is_done:
                driver.rig.close()
                break
            assert kills, "it comes to no end"
            kills -= 1
            driver.rig.kill()
        values = merged_values(app, logs)
        assert [record.value for record in driver.read("order")] == chained(values)
        assert [(r.key.start_ms, r.value) for r in driver.read("counts")] == closed(values)
