"""A crash before and after everything that is written: nothing is lost, doubled or out of order.

Every point of `kstash.failpoints` is armed in a life of its own, which must end there; a life
without it follows. `KSTASH_FAIL_POINTS` chooses some: a regular expression.
"""

from __future__ import annotations

import os
import random
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kstash import Delivery
from kstash.failpoints import POINTS
from kstash.testing import TestDriver
from tests.chaos.checkers import Output
from tests.chaos.crash_app import Life, build
from tests.chaos.crashes import Lane, Nursery, check_thirds
from tests.chaos.harness import SEED_VARIABLE

LANES = 6
"""Applications at once: each spends its time on waiting."""

FIRST = {
    "topics.create",
    "folder.metadata.fsync",
    "folder.metadata.rename",
    "folder.metadata.sync",
    "lineage.config.append",
    "lineage.config.ack",
}
"""Reached in the first life of an application only."""

BOUNDED = {"lineage.run.append", "lineage.run.ack", "end.append", "end.ack"}
"""Reached in a bounded run only."""

OFTEN = {
    "frame.append",
    "frame.ack",
    "sink.append",
    "sink.ack",
    "lineage.segment.append",
    "lineage.segment.ack",
    "sink.flush",
    "sink.offsets",
    "sink.commit",
    "state.write",
    "checkpoint.rename",
    "lineage.checkpoint.append",
    "lineage.checkpoint.ack",
}
"""Reached many times in each life, so the crash is at one of the first few times."""

DELIVERIES: tuple[Delivery, ...] = ("immediate", "transactional")


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """The process that the workers are forked from, gone with all of them in the end."""
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def chosen(names: set[str], choice: random.Random) -> list[str]:
    """Both sides of the points of these names, each as it is armed, in any order."""
    pattern = re.compile(os.environ.get("KSTASH_FAIL_POINTS", ""))
    found = []
    for name in sorted(names):
        for side in ("before", "after"):
            nth = choice.randrange(1, 6) if name in OFTEN else 1
            if name == "topics.create":
                nth = 2  # the first time is for the user's topics, which are there
            if pattern.search(f"{name}.{side}"):
                found.append(f"{name}.{side}:{nth}")
    choice.shuffle(found)
    return found


def test_a_crash_at_every_point(broker: str, tmp_path: Path, nursery: Nursery) -> None:
    """Each point ends a worker; the outputs are exactly once, in order, and rightly computed."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**9))
    print(f"{SEED_VARIABLE}={seed} repeats the choices")
    choice = random.Random(seed)
    flowing = chosen(set(POINTS) - FIRST - BOUNDED, choice)
    once = chosen(FIRST | BOUNDED, choice)
    plans = [(flowing[number::LANES], False) for number in range(LANES)]
    plans += [([point], True) for point in once]
    mark = uuid.uuid4().hex[:8]
    lanes = [
        Lane(
            name=f"crash-{mark}-{number}",
            points=points,
            is_bounded=is_bounded,
            bootstrap=broker,
            folder=tmp_path,
            nursery=nursery,
            random=random.Random(f"{seed} {number}"),
            inputs=(f"left-{mark}-{number}", f"right-{mark}-{number}"),
            sinks=tuple((f"{d}-{mark}-{number}", d) for d in DELIVERIES),
        )
        for number, (points, is_bounded) in enumerate(plans)
        if points
    ]
    topics = [topic for lane in lanes for topic in (*lane.inputs, *(t for t, _ in lane.sinks))]
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result(timeout=60)
    with ThreadPoolExecutor(LANES) as pool:
        errors = list(pool.map(outcome, lanes))
    failed = [error for error in errors if error]
    assert not failed, f"seed {seed}: {len(failed)} of {len(lanes)}\n" + "\n\n".join(failed)
    print(f"{sum(len(lane.points) for lane in lanes)} crashes, {len(POINTS)} points")


def outcome(lane: Lane) -> str:
    """Run a lane; returns what was wrong."""
    try:
        lane.run()
    except AssertionError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def right() -> tuple[list[tuple[int, str, str]], list[Output]]:
    """What is sent, and what comes of it when nothing fails."""
    sent = [(number % 2, str(number % 5), f"{number % 5} {number}") for number in range(30)]
    life = Life(
        "", "", None, None, ("left", "right"), (("out", "immediate"),), {"application_id": "a"}
    )
    with TestDriver(build(life), partitions=1) as driver:
        for side, key, value in sent:
            driver.send(life.inputs[side], value, key=key)
        found = driver.kafka.read("out", 0, is_committed=False)
    return sent, [Output(0, n, m.key(), m.value(), ()) for n, m in enumerate(found)]


def test_the_checker_accepts_what_is_right(
    right: tuple[list[tuple[int, str, str]], list[Output]],
) -> None:
    """The independent computation and the application agree when nothing fails."""
    sent, outputs = right
    assert len(outputs) == len(sent)
    check_thirds({0: outputs}, sent)


@pytest.mark.parametrize(
    ("damage", "shown"),
    [
        (lambda good: good[:-1], "no output for"),
        (lambda good: good[:7] + good[8:], "out of order|state"),
        (lambda good: good[:7] + good[6:], "doubled"),
        (lambda good: [good[3], *good[1:3], good[0], *good[4:]], "out of order|state"),
    ],
    ids=["lost at the end", "lost", "doubled", "swapped"],
)
def test_the_checker_sees_what_is_wrong(
    right: tuple[list[tuple[int, str, str]], list[Output]],
    damage: Callable[[list[Output]], list[Output]],
    shown: str,
) -> None:
    """A lost, doubled or swapped output is seen."""
    sent, outputs = right
    with pytest.raises(AssertionError, match=shown):
        check_thirds({0: damage(outputs)}, sent)


def test_the_checker_sees_a_wrong_state(
    right: tuple[list[tuple[int, str, str]], list[Output]],
) -> None:
    """An output whose chain does not follow from what came before is seen."""
    sent, outputs = right
    wrong = outputs[10]
    assert wrong.value is not None
    changed = Output(0, 10, wrong.key, wrong.value.replace(b'"hash":"', b'"hash":"0', 1), ())
    with pytest.raises(AssertionError, match="state"):
        check_thirds({0: [*outputs[:10], changed, *outputs[11:]]}, sent)
