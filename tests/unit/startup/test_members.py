"""A start that waits for members of another program is a start that goes on."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kstash import App
from kstash.errors import ApplicationIdTakenError, ApplicationRunningError
from kstash.kafka import client_settings as settings
from kstash.kafka.cluster import KafkaCluster
from kstash.process import launch
from kstash.process.clock import SystemClock
from kstash.settings.config import Config
from kstash.startup import continuity as program
from kstash.startup import members
from kstash.testing import TestDriver
from tests.unit.runtime.worker.test_lags import counted
from tests.unit.sleeping_clock import SleepingClock

CONFIG = Config.load(
    application_id="a", bootstrap_servers="127.0.0.1:1", session_timeout_ms=1_800_000
)


def test_a_wait_for_members_of_a_long_session_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session may last longer than a loop may stand still."""
    clock = SleepingClock()
    beats: list[float] = []
    monkeypatch.setattr(members, "time", clock)
    monkeypatch.setattr(members, "find_foreign_members", lambda *_, **__: ["b at /h"])
    with pytest.raises(ApplicationIdTakenError):
        members.refuse_foreign_members(
            CONFIG, "p", waits=True, beat=lambda: beats.append(clock.now)
        )
    assert clock.now >= 1_800
    pauses = [after - before for before, after in itertools.pairwise(beats)]
    assert max(pauses) <= 1


def test_a_start_that_looks_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its long waits get the loop's beat."""
    app = App("a", bootstrap_servers="127.0.0.1:1")
    app.stream("in").to("out")
    topology = app.topology()
    got: dict[str, Any] = {}

    def settled(found: object, *_: object, **options: Any) -> object:
        got["settled"] = options["beat"]
        return found

    def refuse(*_: object, **options: Any) -> None:
        got["refuse"] = options["beat"]

    monkeypatch.setattr(launch, "check_topics", lambda *_, **__: {})
    monkeypatch.setattr(launch, "batch_bytes_max", lambda _: 1_000_000)
    monkeypatch.setattr(launch, "find_foreign_members", lambda *_: [])
    monkeypatch.setattr(launch, "settled", settled)
    monkeypatch.setattr(launch, "refuse_foreign_members", refuse)

    class Cluster(KafkaCluster):
        def prepare(self, *_: object, **__: object) -> None:
            """Makes no client."""

        def admin(self) -> Any:
            """None."""

        scanner = admin  # type: ignore[assignment]

    def beat() -> None:
        """The expected one."""

    launch._check_start(topology, app.config, Cluster(app.config), SystemClock(), beat)
    assert got == {"settled": beat, "refuse": beat}


def test_a_lineage_that_is_read_for_long_beats() -> None:
    """With each poll."""
    with TestDriver(counted("beats")) as driver:
        for value in "abc":
            driver.send("in", value)
        driver.advance(2)
        beats: list[int] = []
        worker = driver.rig.worker
        cluster = driver.rig.cluster
        assert cluster is not None
        program.settled(
            driver.rig.topology,
            worker.context.config,
            topics=driver.kafka.topics(),
            admin=worker.context.clients.admin,
            scanner=cluster.scanner(),
            clock=driver.clock,
            beat=lambda: beats.append(1),
        )
        assert beats


@dataclass(frozen=True)
class Listed:
    """A member of a group, as the cluster lists it."""

    id: str
    client_id: str
    client_host: str = "/h"


def test_only_the_own_place_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker keeps the client id of its first holder; `shop-1` is another one than `shop`."""
    config = CONFIG.override("code", instance_id="shop")
    before = settings.member_id(config, "before")
    found = [Listed(f"{name}-{uuid.UUID(int=1)}", before) for name in ("shop", "shop-1")]
    monkeypatch.setattr(members, "members_of", lambda *_, **__: found)
    own, other = [f"{member.id} at /h" for member in found]
    assert members.find_foreign_members(config, "now") == [own, other]
    assert members.find_foreign_members(config, "now", has_place=True) == [other]
    assert members.find_foreign_members(config, "before") == []


def test_stopped_workers_are_waited_for_until_their_sessions_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a while longer, as the broker checks now and then; the wait is reported once."""
    clock = SleepingClock()
    monkeypatch.setattr(members, "time", clock)
    reports: list[tuple[list[str], float]] = []

    def left_after(seconds: float) -> Callable[[str], list[str]]:
        leaves_s = clock.now + seconds
        return lambda group: ["b at /h"] if group == "a" and clock.now < leaves_s else []

    members.wait_until_stopped(CONFIG, left_after(0), lambda *given: reports.append(given))
    assert reports == []
    members.wait_until_stopped(CONFIG, left_after(1_804), lambda *given: reports.append(given))
    assert reports == [(["b at /h"], 1_805)]
    started = clock.now
    with pytest.raises(ApplicationRunningError, match="b at /h"):
        members.wait_until_stopped(CONFIG, left_after(1e9), lambda *_: None)
    assert clock.now - started == pytest.approx(1_805, abs=0.5)
