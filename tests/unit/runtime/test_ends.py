"""Ends of output partitions: one question for a worker, asked when somebody wants it.

Source: protocol, section 4, H40. The worker is the real one, Kafka is in memory.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.partitioner import Partitioner
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint, Hint
from kstash.errors import IncarnationFencedError
from kstash.ports.kafka import Partition
from kstash.runtime.group.hints import HINT_RECORDS, SAY_AGAIN_S
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver
from kstash.testing.kafka.cluster import MemoryAdmin
from tests.unit.core_cases import task_core

Asked = list[list[Partition]]

FAR = 10**6
"""An end that no output partition of these tests has: a topic of the same name had it once."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The partitions of each question for the ends of outputs."""
    questions: Asked = []
    ask = MemoryAdmin.ask_end_offsets

    def counted(admin: MemoryAdmin, partitions: Collection[Partition]) -> object:
        if any(topic == "out" for topic, _ in partitions):
            questions.append(list(partitions))
        return ask(admin, partitions)

    monkeypatch.setattr(MemoryAdmin, "ask_end_offsets", counted)
    return questions


class Question:
    """A question for the ends of outputs that is on its way until the test answers it."""

    def __init__(self) -> None:
        self.answer: dict[Partition, int] | None = None

    def __call__(self) -> dict[Partition, int] | None:
        """The answer, when it is there."""
        return self.answer


class ByHand:
    """The admin of `IdleEnds` from here on: the test answers each question.

    Attributes:
        questions: all that were asked.
    """

    def __init__(self, driver: TestDriver) -> None:
        self.questions: list[Question] = []
        driver.rig.worker.context.ends._admin = self  # type: ignore[assignment] # all that it uses

    def ask_end_offsets(self, _: Collection[Partition]) -> Question:
        """The answer comes when the test gives it."""
        self.questions.append(Question())
        return self.questions[-1]


def keyed(**settings: Any) -> App:
    """One hop, then a count whose outputs stay in the partition of their key."""
    app = App("ends", checkpoint_interval_ms=1_000, **settings)
    words = app.stream("in", key=kstash.text, value=kstash.text).repartition("middle")
    words.count("words").to("out", value=kstash.int_text)
    return app


def said(driver: TestDriver, kind: type[Hint] | type[Checkpoint], group: int) -> list[int]:
    """Where the counting task would be scanned from in partition 1 of the sink, each time."""
    found = []
    for message in driver.kafka.read("ends-lineage", group):
        if message.value() is None:
            continue  # given up by now
        record = decode_record(message.key(), message.value())
        if isinstance(record, kind) and record.task.stage == 1:
            starts = record.offsets if isinstance(record, Hint) else record.scan_from
            found.append(starts.get((0, 1), 0))
    return found


def turns(driver: TestDriver, seconds: int) -> None:
    """Let an idle worker have a few turns a second."""
    for _ in range(4 * seconds):
        driver.clock.advance(0.25)
        driver.rig.worker.step(0)


def test_an_idle_worker_asks_once_for_all_its_groups(asked: Asked) -> None:
    """A hundred groups look how far others are: one question, each partition once."""
    with TestDriver(keyed(), partitions=100) as driver:
        turns(driver, 21)
        asked.clear()
        turns(driver, 2 * int(SAY_AGAIN_S))
        assert len(asked) == 2
        for partitions in asked:
            assert len(partitions) == len(set(partitions)) == 200


def test_a_worker_at_work_asks_once_a_second(asked: Asked) -> None:
    """However many groups hint meanwhile."""
    with TestDriver(keyed(), partitions=4) as driver:
        driver.advance(2 * SAY_AGAIN_S)
        asked.clear()
        for number in range(60):
            driver.send("in", "word", f"key-{number}", partition=number % 4)
            driver.advance(0.1)
        assert 4 <= len(asked) <= 7


def busy(driver: TestDriver, group: int, count: int) -> None:
    """Have the tasks of one group work; others write nothing, as each key has one partition."""
    key = next(k for k in map(str, range(100)) if Partitioner(2)[k.encode()] == group)
    for _ in range(count):
        driver.send("in", "word", key, partition=group)
        driver.advance(0.5)


@pytest.mark.parametrize("store", ["topic", "none"])
def test_h40_scan_starts_follow_what_others_write(store: str) -> None:
    """An idle task says them ten seconds later at the latest: in a checkpoint, else in a hint."""
    with TestDriver(keyed(checkpoint_store=store), partitions=2) as driver:
        busy(driver, 0, 4)
        busy(driver, 1, 4)
        driver.advance(2 * SAY_AGAIN_S)
        end = driver.kafka.log(("out", 1)).end_offset
        kind = Checkpoint if store == "topic" else Hint
        assert said(driver, kind, 0)[-1] >= end - 1
        busy(driver, 1, 30)
        driver.advance(2 * SAY_AGAIN_S)
        before, end = end, driver.kafka.log(("out", 1)).end_offset
        assert end > before + 30
        assert said(driver, kind, 0)[-1] == end


def test_h40_a_busy_task_follows_where_it_writes_nothing() -> None:
    """A task that is never idle says how far others are in a partition that is not its own."""
    with TestDriver(keyed(), partitions=2) as driver:
        busy(driver, 1, 20)
        busy(driver, 0, 40)
        end = driver.kafka.log(("out", 1)).end_offset
        assert said(driver, Checkpoint, 0)[-1] == end


def test_hints_of_a_busy_task_keep_up_with_many_outputs() -> None:
    """Thousands of outputs of others move the very next hint of a task at work."""
    with TestDriver(keyed(), partitions=2) as driver:
        busy(driver, 0, 2)
        for _ in range(HINT_RECORDS + 500):
            driver.kafka.append("out", b"x", partition=1)  # some other program's
        busy(driver, 0, 5)
        assert said(driver, Hint, 0)[-1] > HINT_RECORDS


def test_an_idle_task_hints_nothing() -> None:
    """However much others write, and however many seconds pass."""
    with TestDriver(keyed(), partitions=2) as driver:
        busy(driver, 0, 4)
        driver.advance(2 * SAY_AGAIN_S)
        before = len(said(driver, Hint, 0))
        busy(driver, 1, 60)
        assert len(said(driver, Hint, 0)) == before


def test_output_partitions_cost_nothing_until_written() -> None:
    """Of a thousand partitions that a task may write, none is kept account of before it does."""
    core = task_core()
    for number in range(1000):
        assert core.is_idle_at((0, number))
        assert core.next_sequence((0, number)) == 1
        core.on_idle_end((0, number), 7)
    assert core.sequences() == {}
    assert core.scan_from() == {(0, number): 7 for number in range(1000)}


def test_h64_ends_of_before_the_tasks_were_opened_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H64: what was listed before a reset is of other topics; who starts over asks again."""
    answers = [{("out", 1): FAR}]
    with TestDriver(keyed(), partitions=2) as driver:
        busy(driver, 0, 4)
        worker = driver.rig.worker
        monkeypatch.setattr(
            MemoryAdmin, "ask_end_offsets", lambda *_: lambda: answers.pop() if answers else None
        )
        worker._groups.restart(1, IncarnationFencedError("a reset"))
        worker.context.ends.want()
        for _ in range(3):
            worker.context.ends.tick(driver.clock.monotonic() + 2)
        assert worker.context.ends.total == FAR
        busy(driver, 1, 8)
        assert 0 < max(said(driver, Hint, 1)) < FAR
        monkeypatch.undo()


def between_rounds(driver: TestDriver) -> tuple[Worker, list[Question]]:
    """Two groups that have worked, after a ten-second round; each question is put by hand."""
    busy(driver, 0, 4)
    busy(driver, 1, 4)
    worker = driver.rig.worker
    driver.advance(SAY_AGAIN_S - driver.clock.monotonic() % SAY_AGAIN_S + 2)
    return worker, ByHand(driver).questions


def opened_anew(driver: TestDriver) -> None:
    """Let the second group start over as after a reset, until it is live again."""
    worker = driver.rig.worker
    worker._groups.restart(1, IncarnationFencedError("a reset"))
    driver.advance(2)
    assert worker.is_live


@pytest.mark.parametrize("is_asked_before", [True, False])
def test_h64_a_question_of_before_says_nothing_to_who_was_opened_since(
    is_asked_before: bool,
) -> None:
    """H64: its answer may come when the group is live, it is of other topics all the same.

    The first question that is asked since is the first one whose answer counts.
    """
    with TestDriver(keyed(), partitions=2) as driver:
        worker, questions = between_rounds(driver)
        if is_asked_before:
            worker.context.ends.want()
            turns(driver, 1)
            assert len(questions) == 1, "it is on its way"
        opened_anew(driver)
        if not is_asked_before:
            worker.context.ends.want()
            turns(driver, 1)
        assert len(questions) == 1
        hints = len(said(driver, Hint, 1))
        questions[0].answer = {("out", 1): FAR}
        busy(driver, 1, 6)
        assert worker.context.ends.total == FAR
        since = said(driver, Hint, 1)[hints:]
        assert since
        assert any(start >= FAR for start in since) != is_asked_before


@pytest.mark.parametrize("is_early", [True, False])
def test_h64_each_round_waits_for_the_answer_to_its_own_question(
    is_early: bool,
) -> None:
    """H64: an answer to a question of before says nothing, come before the round or within it."""
    with TestDriver(keyed(checkpoint_store="none"), partitions=2) as driver:
        worker, questions = between_rounds(driver)
        worker.context.ends.want()
        turns(driver, 1)
        opened_anew(driver)
        old, new = {("out", 1): FAR}, {("out", 1): 2 * FAR}
        if is_early:
            questions[0].answer = old
        turns(driver, int(SAY_AGAIN_S))
        questions[0].answer = old
        turns(driver, 2)
        assert worker.context.ends.total == FAR
        assert max(said(driver, Hint, 1)) < FAR
        for _ in range(2):  # one that a hint wanted may come before the round's own
            questions[-1].answer = new
            turns(driver, 2)
        assert said(driver, Hint, 1)[-1] == 2 * FAR
