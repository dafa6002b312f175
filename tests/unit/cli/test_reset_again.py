"""`kstash reset` in its order, cut short at each step, and done again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import kstash
from kstash import App
from kstash.cli import reset, reset_plan
from kstash.cli.lineage_history import read_history
from kstash.core.ids import Incarnation
from kstash.core.manifest import PROGRAM_SETTING, Manifest, StageShape
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Generation, LineageRecord, Start
from kstash.errors import (
    ApplicationRunningError,
    ClusterError,
    ConfigError,
    ResetUnfinishedError,
    StateError,
)
from kstash.ports.kafka import Message, NewTopic, Partition, TopicInfo
from kstash.settings.config import Config
from kstash.startup.topics import check_topics
from kstash.testing import MemoryKafka
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.cluster import MemoryAdmin

GENERATION = 10**14
"""Of the old lineage topic: its worker's clock stood centuries ahead."""

INTERNAL, LINEAGE, JOURNAL = "shop-words-repartition", "shop-lineage", "shop-lineage-reset"
IDS = ["shop-0", "shop-0-next", "shop-1", "shop-1-next"]


class Cluster:
    """What a reset asks of a cluster and an object store; one of its acts fails.

    Attributes:
        acts: all that were carried out.
        failing: number of the act that fails; 0: none.
        is_late: it fails after it was carried out.
        zombie: (key, value) of records that are first in each partition of a new lineage topic.
    """

    def __init__(self) -> None:
        self.kafka = MemoryKafka(ManualClock(0))
        self.acts: list[str] = []
        self.failing = 0
        self.is_late = False
        self.zombie: list[tuple[bytes, bytes | None]] = []
        self.group_names = ["shop", "shop-positions"]
        self.files = ["checkpoint"]

    def act(self, text: str) -> Iterator[None]:
        """Note an act, and fail before or after it when it is the one."""
        is_failing = len(self.acts) + 1 == self.failing
        if is_failing and not self.is_late:
            raise ClusterError(text)
        self.acts.append(text)
        yield
        if is_failing:
            raise ClusterError(text)

    def topics(self) -> list[TopicInfo]:
        """All topics."""
        return list(self.kafka.topics().values())

    def read(self, places: Mapping[Partition, int], *, uncommitted: bool) -> Iterator[Message]:
        """Records from the beginning."""
        assert uncommitted
        for topic, number in places:
            yield from self.kafka.read(topic, number)

    @property
    def admin(self) -> Cluster:
        """All in one."""
        return self

    @property
    def groups(self) -> Groups:
        """Its consumer groups."""
        return Groups(self)

    def stable_ends(self, places: Sequence[Partition]) -> dict[Partition, int]:
        """Ends."""
        return {place: self.kafka.log(place).end_offset for place in places}

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Make topics; a zombie is the first to write into a lineage topic."""
        for _ in self.act(f"create {topics[0].name}"):
            for topic in topics:
                self.kafka.create_topic(topic.name, topic.partition_count, topic.config)
                for number in range(topic.partition_count if topic.name == LINEAGE else 0):
                    for key, value in self.zombie:
                        self.kafka.append(topic.name, value, key=key, partition=number)

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Append one record."""
        for _ in self.act(f"send {topic} {partition}"):
            self.kafka.append(topic, value, key=key, partition=partition)

    def flush(self) -> None:
        """All is there already."""
        for _ in self.act("flush"):
            pass

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics; one that is gone is fine."""
        for _ in self.act(f"delete {' '.join(topics)}".strip()):
            for topic in topics:
                if topic in self.kafka.topics():
                    self.kafka.delete_topic(topic)

    def fence(self, _: object, transactional_ids: Collection[str]) -> None:
        """Note which."""
        for _ in self.act(f"fence {' '.join(transactional_ids)}"):
            pass

    def everything(self) -> list[str]:
        """Files in the object store."""
        return list(self.files)

    def delete(self, files: list[str]) -> None:
        """Delete files of the object store."""
        for _ in self.act("delete files"):
            self.files = [file for file in self.files if file not in files]

    def remove(self, folder: Path) -> None:
        """As `shutil.rmtree`, which fails with an `OSError`."""
        try:
            for _ in self.act("delete folder"):
                (folder / "file").unlink(missing_ok=True)
                folder.rmdir()
        except ClusterError as error:
            raise OSError(str(error)) from error


class Groups:
    """Consumer groups of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def existing(self, wanted: list[str]) -> list[str]:
        """Those that exist."""
        return [name for name in wanted if name in self._cluster.group_names]

    def delete(self, groups: Collection[str]) -> None:
        """Delete them."""
        for _ in self._cluster.act("delete groups"):
            left = [name for name in self._cluster.group_names if name not in groups]
            self._cluster.group_names = left


def words() -> App:
    """A word count."""
    app = App("shop", checkpoint_store="none")
    keyed = app.stream("lines", value=kstash.text).key_by(
        lambda line: line, key=kstash.text, name="words"
    )
    keyed.count("counts").to("counts")
    return app


def start(offset: int, *inputs: str) -> tuple[bytes, bytes]:
    """A START of a program with these inputs."""
    stage = StageShape(0, "words", tuple((name, False) for name in inputs), (), (), ())
    program = Manifest((stage, StageShape(1, "counts", ((INTERNAL, True),), (), (), ())), 2)
    record = Start(Incarnation(GENERATION, offset), None, {}, {PROGRAM_SETTING: program.encode()})
    return encode_key(record), encode_value(record)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An application that has worked on two partitions, the second of which has three records."""
    return worked(monkeypatch)


def worked(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """See `shop`."""
    shop = Cluster()
    for topic in ("lines", "counts", INTERNAL, LINEAGE):
        shop.kafka.create_topic(topic, 2)
    for number in (0, 1):
        config = Generation(b"n" * 16, GENERATION)
        for key, value in ((encode_key(config), encode_value(config)), start(1, "lines")):
            shop.kafka.append(LINEAGE, value, key=key, partition=number)
    for _ in range(3):
        shop.kafka.append("lines", b"a", partition=1)
    for module in (reset, reset_plan):
        monkeypatch.setattr(module, "object_store", lambda _: shop)
    monkeypatch.setattr(reset, "fence", shop.fence)
    monkeypatch.setattr("shutil.rmtree", shop.remove)
    return shop


def run(shop: Cluster, folder: Path, to: str | None = "latest") -> reset_plan.Plan:
    """One `kstash reset shop`."""
    config = Config(application_id="shop", state_dir=str(folder))
    kafka: Any = shop
    plan = reset_plan.make_plan(config, kafka, to)
    list(reset.plan_lines(plan, config, is_dry=False))
    reset.carry_out(plan, config, kafka)
    return plan


def lineage(shop: Cluster, number: int) -> list[LineageRecord]:
    """Records of a partition of the lineage topic."""
    return [decode_record(m.key(), m.value()) for m in shop.kafka.read(LINEAGE, number)]


def check_done(shop: Cluster, folder: Path, acts: list[str]) -> int:
    """All is gone, and lineage made anew; returns its generation. `acts` are of the last run."""
    assert set(shop.kafka.topics()) == {"lines", "counts", LINEAGE}
    assert not shop.group_names
    assert not shop.files
    assert not (folder / "shop").exists()
    found = [lineage(shop, number) for number in (0, 1)]
    assert [len(records) for records in found] == [1, 1]
    first, second = (cast("Generation", records[0]) for records in found)
    assert first.generation == second.generation > GENERATION
    assert first.first_offsets == (("lines", 0),)
    assert second.first_offsets == (("lines", 3),)
    fence = acts.index(f"fence {' '.join(IDS)}")
    assert fence < acts.index(f"create {LINEAGE}")
    deleted = [i for i, act in enumerate(shop.acts) if act == f"delete {LINEAGE}"]
    begun = len(shop.acts) - len(acts)
    assert deleted
    assert deleted[-1] < begun + fence
    return first.generation


def fill(folder: Path) -> None:
    """A state folder."""
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "file").touch()


def test_the_order_of_a_reset(shop: Cluster, tmp_path: Path) -> None:
    """Lineage goes before the sinks are fenced (H63), and comes again when all else is gone."""
    fill(tmp_path)
    run(shop, tmp_path)
    check_done(shop, tmp_path, shop.acts)
    acts = [act for act in shop.acts if not act.startswith(("send", "flush"))]
    assert acts == [
        f"create {JOURNAL}",
        f"delete {LINEAGE}",
        f"delete {INTERNAL}",
        "delete groups",
        "delete folder",
        "delete files",
        f"fence {' '.join(IDS)}",
        f"create {LINEAGE}",
        f"delete {JOURNAL}",
    ]
    assert shop.acts.index("flush") < shop.acts.index(f"delete {LINEAGE}")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_reset_that_was_cut_short_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    """At each of its steps: no worker starts in between, and the second run does the whole."""
    app = words()
    failing = 0
    while True:
        failing += 1
        shop, folder = worked(monkeypatch), tmp_path / str(failing)
        fill(folder)
        shop.failing, shop.is_late = failing, is_late
        try:
            run(shop, folder)
            break
        except (ClusterError, StateError):
            pass
        shop.failing = 0
        if JOURNAL in shop.kafka.topics():
            with pytest.raises(ResetUnfinishedError, match="kstash reset shop` again"):
                check_topics(MemoryAdmin(shop.kafka), app.topology(), app.config)
            done = len(shop.acts)
            run(shop, folder)
            check_done(shop, folder, shop.acts[done:])
        elif failing == 1:
            assert LINEAGE in shop.kafka.topics()
            assert not shop.acts
        else:
            # The journal's deletion was done, and its answer was lost.
            check_done(shop, folder, shop.acts)
    assert failing > 14


def test_each_run_has_a_generation_above_all_before(shop: Cluster, tmp_path: Path) -> None:
    """Also above one that a run made that was cut short before its end."""
    for made in range(1, 4):
        shop.acts.clear()
        shop.failing = 11 + made
        with pytest.raises(ClusterError):
            run(shop, tmp_path)
        assert f"create {LINEAGE}" in shop.acts
    shop.failing = 0
    shop.acts.clear()
    run(shop, tmp_path)
    assert check_done(shop, tmp_path, shop.acts) == GENERATION + 4


def test_a_lineage_topic_that_somebody_deleted(shop: Cluster, tmp_path: Path) -> None:
    """What is left shows how many task groups there were; without any input `--to` is refused."""
    shop.kafka.delete_topic(LINEAGE)
    with pytest.raises(ConfigError, match="it is not known what 'shop' reads"):
        run(shop, tmp_path)
    assert not shop.acts
    plan = run(shop, tmp_path, to=None)
    assert f"fence {' '.join(IDS)}" in shop.acts
    assert [lineage(shop, number)[0] for number in (0, 1)] == [
        Generation(cast("Generation", lineage(shop, n)[0]).nonce, plan.generation) for n in (0, 1)
    ]


def test_nothing_is_made_for_an_application_that_never_ran(shop: Cluster, tmp_path: Path) -> None:
    """Nothing shows any task groups."""
    for topic in (LINEAGE, INTERNAL):
        shop.kafka.delete_topic(topic)
    run(shop, tmp_path, to=None)
    assert set(shop.kafka.topics()) == {"lines", "counts"}
    assert not any(act.startswith("create") for act in shop.acts)


@pytest.mark.parametrize("count", [1, 3])
def test_the_lineage_topic_is_made_as_large_as_the_inputs_are(
    shop: Cluster, tmp_path: Path, count: int
) -> None:
    """An input of another size is what a reset is advised for."""
    shop.kafka.delete_topic("lines")
    shop.kafka.create_topic("lines", count)
    run(shop, tmp_path)
    found = [cast("Generation", lineage(shop, number)[0]) for number in range(count)]
    assert [config.first_offsets for config in found] == [(("lines", 0),)] * count
    assert shop.kafka.topics()[LINEAGE].partition_count == count
    app = words()
    check_topics(MemoryAdmin(shop.kafka), app.topology(), app.config)


def test_an_input_that_is_gone_makes_no_lineage_topic_smaller(
    shop: Cluster, tmp_path: Path
) -> None:
    """It may come again as large as it was."""
    key, value = start(2, "lines", "more")
    shop.kafka.append(LINEAGE, value, key=key)
    shop.kafka.create_topic("more", 1)
    shop.kafka.delete_topic("lines")
    run(shop, tmp_path)
    assert shop.kafka.topics()[LINEAGE].partition_count == 2


def test_the_journal_tells_which_program_was_the_newest(shop: Cluster, tmp_path: Path) -> None:
    """One that ran before, with a larger input, does not say how large lineage is made."""
    shop.kafka.create_topic("wide", 7)
    for number in (0, 1):
        for offset, name in ((2, "wide"), (3, "lines")):
            key, value = start(offset, name)
            shop.kafka.append(LINEAGE, value, key=key, partition=number)
    shop.failing = len(["create", *["send"] * 5, "flush", "delete lineage"]) + 1
    with pytest.raises(ClusterError, match=INTERNAL):
        run(shop, tmp_path)
    both: Any = shop
    history = read_history(both, [shop.kafka.topics()[JOURNAL]])
    assert [reset_plan.inputs_of(history.newest[number]) for number in (0, 1)] == [
        {"lines"},
        {"lines"},
    ]
    assert history.generation == GENERATION + 1
    shop.failing = 0
    run(shop, tmp_path)
    assert shop.kafka.topics()[LINEAGE].partition_count == 2


def test_a_zombie_that_was_faster_is_reported(shop: Cluster, tmp_path: Path) -> None:
    """Its CONFIG is the first: the reset has failed, and no worker starts before the next one."""
    config = Generation(b"z" * 16, GENERATION)
    shop.zombie = [(encode_key(config), encode_value(config))]
    with pytest.raises(ApplicationRunningError, match="of group 0"):
        run(shop, tmp_path)
    assert JOURNAL in shop.kafka.topics()


def test_what_a_zombie_left_before_the_config_is_passed(shop: Cluster, tmp_path: Path) -> None:
    """Tombstones, damaged records, and those without a key are no CONFIG."""
    shop.zombie = [(b"key", None), (b"key", b"garbage"), (b"", b""), start(1, "lines")]
    plan = run(shop, tmp_path)
    assert JOURNAL not in shop.kafka.topics()
    record = shop.kafka.read(LINEAGE, 1)[-1]
    found = decode_record(record.key(), record.value())
    assert isinstance(found, Generation)
    assert found.generation == plan.generation
