"""The tower on the test driver: the application and what is computed of it by itself agree."""

from __future__ import annotations

import random

import pytest

from kstash.testing import TestDriver
from tests.chaos.checkers import Output, Outputs
from tests.chaos.harness import Record
from tests.chaos.test_tower_checks import a_tower, found
from tests.chaos.tower import Views
from tests.chaos.tower_app import build


def read(driver: TestDriver, topic: str) -> Outputs:
    """What a plain reader of committed records finds."""
    return {
        partition: [
            Output(
                partition,
                m.offset(),
                m.key(),
                m.value(),
                tuple((n, v or b"") for n, v in m.headers() or ()),
            )
            for m in driver.kafka.read(topic, partition, is_committed=True)
        ]
        for partition in range(driver.kafka.topics()[topic].partition_count)
    }


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("has_extras", [True, False])
def test_a_tower_in_memory_is_what_its_checkers_expect(stages: int, has_extras: bool) -> None:
    """Through crashes with late lineage under a small cap, no check finds anything."""
    choice = random.Random(stages)
    tower = a_tower(stages=stages, has_extras=has_extras)
    app = build(
        tower.application_id,
        input_topics=tower.inputs,
        output=tower.output,
        stages=stages,
        has_extras=has_extras,
        lineage_header_bytes_max=256,
    )
    inputs: list[Record] = []
    with TestDriver(app, partitions=2, lineage_delay_s=1.0) as driver:
        for _ in range(3):
            for _ in range(60):
                topic, _, key, value = record = tower.record()
                inputs.append(record)
                driver.send(topic, value, key=key)
            driver.advance(choice.choice((0.1, 0.6, 1.3)))
            driver.crash()
            driver.recover()
        for _ in range(20):
            driver.advance(0.5)
        sinks = [[read(driver, topic) for topic in tower.sinks_of(stage)] for stage in tower.stages]
    views = [Views(at_once, at_once, plain) for at_once, plain in sinks]
    assert found(tower, views, inputs) == {}
