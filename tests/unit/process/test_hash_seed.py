"""A hash seed that is not the pinned one is in START, and a replay under another one is logged."""

from __future__ import annotations

from functools import partial

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.core.manifest import HASHING_SETTING
from kstash.core.record_codec import decode_record
from kstash.core.records import Start
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver
from kstash.testing import rig as module
from kstash.verify.formats import lineage_record

WARNING = "replay under another hash seed"


@pytest.fixture
def app() -> kstash.App:
    """Counts; no checkpoint is taken by itself."""
    app = kstash.App("counts", checkpoint_interval_ms=3_600_000)
    app.stream("in", key=kstash.text).count("counts").to("out")
    return app


def _seed(monkeypatch: pytest.MonkeyPatch, hashing: str) -> None:
    """Workers have this seed from now on."""
    monkeypatch.setattr(module, "Worker", partial(Worker, hashing=hashing))


def _seeds(driver: TestDriver) -> list[str | None]:
    """The seeds that the STARTs hold, to the library and to the checker's own decoder."""
    seeds = []
    for record in driver.kafka.read("counts-lineage"):
        key, value = record.key(), record.value()
        if value is None or not isinstance(start := decode_record(key or b"", value), Start):
            continue
        checked = lineage_record(key, value).body["settings"]
        assert checked == start.settings
        seeds.append(start.settings.get(HASHING_SETTING))
    return seeds


@pytest.mark.parametrize(("seeds", "warns"), [("aa", False), ("ab", True), ("a0", True)])
def test_a_replay_under_another_seed(
    app: kstash.App, monkeypatch: pytest.MonkeyPatch, seeds: str, warns: bool
) -> None:
    """It is logged, and goes on: most programs do not depend on it."""
    first, second = (seed.replace("0", "") for seed in seeds)
    _seed(monkeypatch, first)
    with TestDriver(app) as driver:
        driver.send("in", b"", key="k")
        driver.crash()
        _seed(monkeypatch, second)
        with capture_logs() as lines:
            driver.recover()
        assert _seeds(driver) == [first, second or None]
        assert [line["event"] == WARNING for line in lines].count(True) == warns
        driver.send("in", b"", key="k")
        assert [record.value for record in driver.read("out")] == [1, 2]


def test_the_pinned_seed_goes_without_saying(app: kstash.App) -> None:
    """So that an older release reads the START of a newer one as its own."""
    with TestDriver(app) as driver:
        assert _seeds(driver) == [None]


def test_nothing_to_replay_is_not_reported(
    app: kstash.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an orderly stop left is not made again."""
    _seed(monkeypatch, "a")
    with TestDriver(app) as driver:
        driver.send("in", b"", key="k")
        driver.close()
        _seed(monkeypatch, "b")
        with capture_logs() as lines:
            driver.recover()
        assert WARNING not in [line["event"] for line in lines]
        assert _seeds(driver) == ["a", "b"]
