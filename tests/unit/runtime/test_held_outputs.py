"""What the cap holds in a replay beside plain outputs (H42). Source: protocol, section 7."""

from __future__ import annotations

import hashlib
from typing import Any

import kstash
from kstash.testing import TestDriver

COMMIT_S = 0.1
CAP_BYTES = 256
FIRST, REST, A_TIME = 1_800, 600, 6


def chained(link: str, value: str) -> str:
    """The next link of a rolling hash: depends on all before it and on their order."""
    return hashlib.blake2b(f"{link} {value}".encode(), digest_size=4).hexdigest()


def mixed(**settings: Any) -> kstash.App:
    """One task over two topics that writes a sink of each delivery."""
    app = kstash.App("mixed", lineage_header_bytes_max=CAP_BYTES, **settings)
    chains = app.stream("left", "right", key=kstash.text, value=kstash.text).aggregate(
        "chains", str, chained, value=kstash.text
    )
    chains.to("at-once", value=kstash.text)
    chains.to("plain", value=kstash.text, delivery="transactional")
    return app


def feed(driver: TestDriver, count: int, a_time: int, start: int) -> None:
    """Append records to both inputs in turn, so many before the worker looks."""
    for number in range(start, start + count):
        driver.kafka.append(("left", "right")[number % 2], str(number).encode(), key=b"k")
        if number % a_time == a_time - 1:
            driver.advance(0)


def committed(driver: TestDriver, topic: str) -> list[bytes | None]:
    """What a plain `read_committed` reader sees."""
    return [record.value() for record in driver.kafka.read(topic)]


def recover_slowly(driver: TestDriver) -> None:
    """Let a new worker get live, with a commit due at each of its steps."""
    driver.rig.start()
    worker = driver.rig.worker
    held = 0
    while not worker.is_live:
        worker.step(0.0)
        driver.clock.advance(COMMIT_S)
        tasks = [task for group in worker.groups.values() for task in group.tasks.values()]
        held = max(held, *(task.core.held_count for task in tasks), 0)
    assert held, "nothing was held, so nothing was tested"


def test_h42_no_commit_passes_over_what_the_cap_holds() -> None:
    """H42: a replay whose lineage is stable at first and then slow, a commit in it, a second crash.

    The lineage of the first events is in its topic, that of the others in many headers, more than
    the cap together: in the replay the very first outputs are held, and others are not.
    """
    with TestDriver(mixed()) as driver:
        feed(driver, FIRST, FIRST, 0)
        driver.rig.cluster.links["lineage"].holds_requests = True
        feed(driver, REST, A_TIME, FIRST)
        seen = [record.value for record in driver.read("at-once")]
        assert len(seen) == FIRST + REST, "the second crash is to find them"
        driver.crash()
        driver.rig.lineage_delay_s = 3600
        recover_slowly(driver)
        driver.crash()
        driver.rig.lineage_delay_s = 0
        driver.recover()
        driver.advance(5)
        links = committed(driver, "at-once")
        assert [(link or b"").decode() for link in links] == seen
