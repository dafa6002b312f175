"""Remote checkpoints as the lineage topic shows them, on `MemoryKafka`."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash.core.files import FileDeletion
from kstash.core.ids import Incarnation
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint
from kstash.errors import OffsetOutOfRangeError, StepDeadlineError
from kstash.runtime.group.checkpoints import Checkpoints
from kstash.runtime.group.stored_files import Collection
from kstash.testing import TestDriver
from kstash.testing.background import ManualJob
from kstash.testing.stores import MemoryCheckpointStore


def published(driver: TestDriver, topic: str) -> list[Checkpoint]:
    """All CKPTs of a lineage topic, in order."""
    records = (
        decode_record(message.key(), value)
        for message in driver.kafka.read(topic, is_committed=False)
        if (value := message.value()) is not None
    )
    return [record for record in records if isinstance(record, Checkpoint)]


def test_checkpoints_of_tasks_without_stores_are_remote_at_once() -> None:
    """They have no files that a lost disk could take."""
    app = kstash.App("shout")
    app.stream("in", value=kstash.text).map(str.upper).to("out", value=kstash.text)
    with TestDriver(app) as driver:
        driver.send("in", "hello")
        driver.advance(20)
        checkpoints = published(driver, "shout-lineage")
    assert checkpoints
    assert all(checkpoint.is_remote and not checkpoint.files for checkpoint in checkpoints)


def test_a_checkpoint_on_its_way_keeps_its_files() -> None:
    """When the lineage topic is slow, an acknowledged CKPT does not take the next one's files."""
    app = kstash.App("slow", checkpoint_interval_ms=1_000, checkpoint_store="none")
    app.stream("in", key=kstash.text, value=kstash.text).count("words").to("out")
    with TestDriver(app, lineage_delay_s=2.5) as driver:
        seen = 0
        for turn in range(40):
            driver.send("in", f"word {turn}", key="word")
            driver.advance(0.5)
            checkpoints = published(driver, "slow-lineage")
            seen = len(checkpoints)
            if checkpoints:
                newest = checkpoints[-1]
                assert newest.label in driver.rig.backend.task("words", 0).labels()
        assert seen > 3


def count(**settings: Any) -> kstash.App:
    """Words counted straight from their topic: one task with a store."""
    app = kstash.App("remote", **settings)
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out", value=kstash.int_text)
    return app


def remote(driver: TestDriver) -> list[Checkpoint]:
    """Remote checkpoints of the counting task, oldest first, each as it was last said."""
    found = [c for c in published(driver, "remote-lineage") if c.is_remote]
    return list({c.label: c for c in found}.values())


def feed(driver: TestDriver, *keys: str) -> None:
    """Each key once, then time for a checkpoint and its upload."""
    for key in keys:
        driver.send("in", "x", key)
    driver.advance(20)


def replayed(driver: TestDriver) -> float:
    """Records that were processed again, over all lives."""
    driver.advance(2)  # counted once a second
    return driver.metrics.counts.get("replayed_records", 0)


def lose_disk(driver: TestDriver) -> None:
    """As on another machine."""
    driver.rig.backend.lose()


def test_a_published_checkpoint_is_stored_and_committed_by_a_second_record() -> None:
    """Same label and position, a number of its own, and a URI for every file."""
    with TestDriver(count()) as driver:
        feed(driver, "a", "b")
        local, after = published(driver, "remote-lineage")[:2]
        assert not local.is_remote
        assert after.is_remote
        assert (after.label, after.position) == (local.label, local.position)
        assert after.number != local.number
        assert {f.uri for f in after.files} == set(driver.store.files)
        assert {f.uri for f in local.files} == {""}


def test_a_lost_disk_comes_back_from_the_store() -> None:
    """State and outputs go on where they were; only what came after the checkpoint is replayed."""
    with TestDriver(count()) as driver:
        feed(driver, "a", "b", "a")
        driver.send("in", "x", "a")  # a checkpoint is due by now
        driver.send("in", "x", "b")
        driver.crash()
        lose_disk(driver)
        driver.recover()
        assert driver.metrics.counts["restore_bytes"] > 0
        assert replayed(driver) == 1
        assert driver.state("n") == {"a": 3, "b": 2}
        driver.send("in", "x", "b")
        assert [r.value for r in driver.read("out")] == [1, 1, 2, 3, 2, 3]


def test_files_that_are_here_are_not_fetched() -> None:
    """Of a damaged local checkpoint what is whole is linked, by its digest."""
    with TestDriver(count()) as driver:
        feed(driver, "a")
        driver.crash()
        label = remote(driver)[-1].label
        driver.rig.backend.task("n", 0).corrupt(label)
        driver.recover()
        fetched = driver.metrics.counts["restore_bytes"]
        assert fetched == sum(f.size for f in remote(driver)[0].files)
        driver.crash()
        driver.recover()
        assert driver.metrics.counts["restore_bytes"] == fetched


def test_files_of_the_base_are_referred_to() -> None:
    """What has not changed is not stored again, also by the next incarnation."""
    with TestDriver(count()) as driver:
        feed(driver, "a")
        driver.crash()
        driver.recover()
        names = [name.rsplit("/", 1)[1] for name in driver.store.puts]
        feed(driver, "b")
        assert len(remote(driver)) >= 2
        again = [name.rsplit("/", 1)[1] for name in driver.store.puts[len(names) :]]
        assert again
        assert not set(names) & set(again)


def test_a_damaged_file_falls_back_to_the_older_checkpoint() -> None:
    """It is not referred to again either."""
    with TestDriver(count()) as driver:
        for key in "ab":
            feed(driver, key)
        older, newest = remote(driver)[-2:]
        bad = next(f for f in newest.files if f not in older.files)
        driver.store.corrupt(bad.uri)
        driver.crash()
        lose_disk(driver)
        driver.recover()
        assert replayed(driver) == 1
        assert driver.state("n") == {"a": 1, "b": 1}
        feed(driver, "c")
        assert bad.uri not in {f.uri for f in remote(driver)[-1].files}


def test_processing_goes_on_while_the_store_is_away() -> None:
    """Failures are counted; the newest checkpoint is stored when the store is back."""
    with TestDriver(count()) as driver:
        driver.store.is_away = True
        for key in "abc":
            feed(driver, key)
        assert driver.state("n") == {"a": 1, "b": 1, "c": 1}
        assert remote(driver) == []
        assert driver.metrics.counts["checkpoint_upload_failures"] >= 2
        labels = [c.label for c in published(driver, "remote-lineage")]
        driver.store.is_away = False
        driver.advance(70)
        assert [c.label for c in remote(driver)] == labels[-1:]


def test_no_error_of_a_store_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that its client has never announced."""

    def surprise(*_: object) -> str:
        raise ValueError("bucket has a strange name")

    with TestDriver(count()) as driver:
        monkeypatch.setattr(driver.store, "put", surprise)
        for key in "ab":
            feed(driver, key)
        assert driver.metrics.counts["checkpoint_upload_failures"] >= 1
        assert driver.state("n") == {"a": 1, "b": 1}
        monkeypatch.undo()
        driver.advance(70)
        assert remote(driver)


def test_a_restore_waits_for_the_store() -> None:
    """A store that does not answer is asked again: an old checkpoint would be no answer."""
    with TestDriver(count()) as driver:
        feed(driver, "a")
        driver.crash()
        lose_disk(driver)
        driver.store.is_away = True
        with pytest.raises(StepDeadlineError):
            driver.recover()
        driver.store.is_away = False
        driver.advance(15)
        assert driver.state("n") == {"a": 1}
        assert replayed(driver) == 0


def test_a_slow_upload_is_overtaken_by_the_newest_checkpoint() -> None:
    """What came in between is never stored, and the files of the slow one survive on the disk."""
    with TestDriver(count()) as driver:
        driver.background.held_lanes.add("upload")
        for key in "abcd":
            feed(driver, key)
        labels = [c.label for c in published(driver, "remote-lineage")]
        assert len(labels) == 4
        assert labels[0] in driver.rig.backend.task("n", 0).labels()
        driver.background.held_lanes.clear()
        driver.advance(5)
        assert [c.label for c in remote(driver)] == [labels[0], labels[3]]


def test_old_files_are_deleted_once_two_newer_checkpoints_are_remote() -> None:
    """Never one that a retained checkpoint names; what a crashed upload left goes too."""
    with TestDriver(count()) as driver:
        stray = driver.store.put(0, "n_0/1-1/feed", [b"of a crashed upload"])
        for number in range(6):
            feed(driver, f"k{number}")
            kept = {f.uri for c in remote(driver)[-2:] for f in c.files}
            assert kept <= set(driver.store.files)
        assert set(driver.store.files) == kept
        assert stray not in driver.store.files


def test_old_files_of_a_task_behind_a_hop_are_deleted() -> None:
    """A checkpoint with reader states is known again when it is read back and decoded."""
    app = kstash.App("remote")
    words = app.stream("in", key=kstash.text, value=kstash.text).repartition("hop")
    words.count("n").to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        for number in range(6):
            feed(driver, f"k{number}")
        checkpoints = [c for c in remote(driver) if c.files]
        assert all(c.readers for c in checkpoints)
        assert set(driver.store.files) == {f.uri for c in checkpoints[-2:] for f in c.files}


def test_more_checkpoints_are_retained_when_asked() -> None:
    """`checkpoints_retained`: the oldest of them still serves, its lineage is kept."""
    with TestDriver(count(checkpoints_retained=4)) as driver:
        for number in range(6):
            feed(driver, f"k{number}")
        kept = {f.uri for c in remote(driver)[-4:] for f in c.files}
        assert set(driver.store.files) == kept
        oldest = {f.uri for f in remote(driver)[-4].files}
        for uri in kept - oldest:
            driver.store.corrupt(uri)
        driver.crash()
        lose_disk(driver)
        driver.recover()
        assert replayed(driver) == 3
        assert driver.state("n") == {f"k{number}": 1 for number in range(6)}


def test_a_zombie_deletes_nothing_of_its_successor() -> None:
    """Files of a higher incarnation are none of a collection's business."""
    store = MemoryCheckpointStore()
    older, own, newer = (store.put(0, f"n_0/1-{inc}/{inc}", [b"x"]) for inc in (4, 5, 6))
    foreign = store.put(0, "n_0/odd", [b"x"])
    deletion = FileDeletion(Incarnation(1, 5), (), frozenset(), known=frozenset())
    collection = Collection(store, 0, "n_0", deletion)
    collection.run(ManualJob("upload", lambda _: None, lambda *_: None))
    assert set(store.files) == {own, newer, foreign}
    assert older not in store.files


def test_bandwidth_is_bounded() -> None:
    """An upload takes its bytes divided by `checkpoint_upload_bytes_per_s`."""
    with TestDriver(count(checkpoint_upload_bytes_per_s=10)) as driver:
        driver.background.held_lanes.add("upload")
        feed(driver, "a")
        (job,) = driver.background.jobs
        driver.background.held_lanes.clear()
        driver.advance(1)
        size = sum(f.size for f in remote(driver)[0].files)
        assert job.paused_s == pytest.approx(size / 10)


def test_a_local_base_becomes_remote_without_a_new_event() -> None:
    """A crash before the upload, and an idle task after it: the next life stores the base."""
    with TestDriver(count()) as driver:
        driver.background.held_lanes.add("upload")
        feed(driver, "a")
        driver.crash()
        assert remote(driver) == []
        driver.background.held_lanes.clear()
        driver.recover()
        driver.advance(1)
        (stored,) = remote(driver)
        assert stored.position == 1
        driver.crash()
        lose_disk(driver)
        driver.recover()
        assert driver.state("n") == {"a": 1}


def test_an_orderly_stop_stores_the_last_checkpoint() -> None:
    """So that the next owner replays nothing, wherever it is."""
    driver = TestDriver(count())
    driver.send("in", "x", "a")
    driver.close()
    lose_disk(driver)
    driver.recover()
    assert replayed(driver) == 0
    assert driver.state("n") == {"a": 1}
    driver.close()


def test_an_orderly_stop_does_not_wait_for_a_store_that_is_away() -> None:
    """The local checkpoint and the RELEASE still go out."""
    driver = TestDriver(count())
    driver.send("in", "x", "a")
    driver.store.is_away = True
    driver.close()
    driver.recover()
    assert replayed(driver) == 0
    driver.close()


class BusyUploads:
    """An upload that does not end."""

    is_busy = True
    has_store = True

    def __init__(self, *, is_failing: bool) -> None:
        self.is_failing = is_failing

    def tick(self, now: float, *, may_publish: bool) -> None:
        """Nothing comes of it."""


@pytest.mark.parametrize("is_failing", [False, True])
def test_an_orderly_stop_waits_its_share_for_an_upload(*, is_failing: bool) -> None:
    """A slow store gets three quarters of the shutdown's time, one that fails nothing."""
    with TestDriver(count(shutdown_timeout_ms=20_000)) as driver:
        group = driver.rig.worker.groups[0]
        context = driver.rig.worker.context
        checkpoints = Checkpoints(
            context.config,
            context.services,
            state=context.state,
            uploads=BusyUploads(is_failing=is_failing),  # type: ignore[arg-type] # all that it uses
            lineage=group.lineage,
            group=0,
        )
        waited = 0
        while not checkpoints.drain(driver.clock.monotonic(), may_publish=True):
            driver.clock.advance(1.0)
            waited += 1
            assert waited < 20
        assert waited == (0 if is_failing else 15)


def test_without_a_checkpoint_the_inputs_are_processed_again() -> None:
    """As long as they begin where the application began."""
    with TestDriver(count(checkpoint_store="none")) as driver:
        feed(driver, "a", "b")
        driver.crash()
        lose_disk(driver)
        driver.recover()
        assert driver.state("n") == {"a": 1, "b": 1}
        driver.crash()
        lose_disk(driver)
        driver.kafka.log(("in", 0)).delete_before(1)
        with pytest.raises(
            OffsetOutOfRangeError, match="needs is 0, but the first that is left is 1"
        ) as caught:
            driver.recover()
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("in", 0, 0)


def last(**settings: Any) -> kstash.App:
    """The last value of each key: a state may become what it was before, file by file."""
    app = kstash.App("remote", checkpoint_interval_ms=1_000, **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.reduce("n", lambda _, new: new).to("out")
    return app


def set_last(driver: TestDriver, value: str) -> None:
    """Make it the state, and let a checkpoint of it be taken and stored."""
    driver.send("in", value, key="k")
    driver.advance(3)


def check_files(driver: TestDriver, retained: int = 2) -> None:
    """All files of the newest remote checkpoints are there."""
    for checkpoint in remote(driver)[-retained:]:
        missing = driver.store.missing({entry.uri for entry in checkpoint.files})
        assert not missing, f"{checkpoint.label} misses {missing}"


@pytest.mark.parametrize("retained", [2, 4])
def test_only_files_of_the_two_newest_are_referred_to(retained: int) -> None:
    """Others may be deleted at any time: by the collection under way, or by a zombie's."""
    with TestDriver(last(checkpoints_retained=retained)) as driver:
        for value in "abc":
            set_last(driver, value)
        puts = len(driver.store.puts)
        set_last(driver, "a")
        again = {entry.digest for entry in remote(driver)[-1].files}
        first = {entry.digest for entry in remote(driver)[-4].files}
        assert again & first, "the same files as the first one"
        stored = {name.rpartition("/")[2] for name in driver.store.puts[puts:]}
        assert again & first <= stored
        check_files(driver)


def test_a_file_that_is_stored_again_survives_the_collection_of_its_like() -> None:
    """A checkpoint on its way may name what an older one named, and it is not deleted for that."""
    with TestDriver(last()) as driver:
        for value in "ab":
            set_last(driver, value)
        # The third one is published, and not read back before the fourth one is on its way.
        consumer = driver.rig.worker.context.clients.consumer
        consumer.pause([("remote-lineage", 0)])
        set_last(driver, "c")
        driver.background.held_lanes.add("upload")
        set_last(driver, "a")
        driver.rig.cluster.links["lineage"].holds_acks = True
        driver.background.held_lanes.clear()
        driver.advance(1)
        consumer.resume([("remote-lineage", 0)])
        driver.advance(3)
        driver.rig.cluster.links["lineage"].holds_acks = False
        driver.advance(3)
        assert len(remote(driver)) >= 4
        check_files(driver)
