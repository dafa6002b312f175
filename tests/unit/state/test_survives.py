"""A state is the same before and after a restore, or an error at its record (H55)."""

from __future__ import annotations

import math
from typing import Any

import pytest

import kstash
from kstash import App, Serde
from kstash.errors import SerdeError
from kstash.testing import TestDriver

OVERFLOW = (1.5, 1e308, 1e308, 1.0)


def sums(serde: Serde[Any]) -> App:
    """Sums of floats, which overflow to an infinity."""
    app = App("sums")
    app.stream("in", key=kstash.text, value=kstash.float_text).sum("s", value=serde).to("out")
    return app


@pytest.mark.parametrize("pause_s", [0, 11])
def test_json_refuses_an_infinity_whenever_the_checkpoint_was(pause_s: float) -> None:
    """The error names the record that made it, with a checkpoint before it and without."""
    with TestDriver(sums(kstash.json)) as driver:
        driver.send("in", OVERFLOW[0], key="a")
        driver.send("in", OVERFLOW[1], key="a")
        driver.advance(pause_s)
        with pytest.raises(SerdeError, match=r"cannot serialize .*use msgpack.*offset 2") as caught:
            driver.send("in", OVERFLOW[2], key="a")
        assert caught.value.offset == 2


@pytest.mark.parametrize("serde", [kstash.msgpack, kstash.number_text, kstash.float_text])
@pytest.mark.parametrize("is_published", [False, True])
def test_an_infinity_comes_back(serde: Serde[Any], is_published: bool) -> None:
    """Records that were processed once are processed again, from a checkpoint or without it."""
    with TestDriver(sums(serde)) as driver:
        for value in OVERFLOW[:3]:
            driver.send("in", value, key="a")
        driver.rig.cluster.links["lineage"].holds_requests = not is_published
        driver.advance(11)
        driver.send("in", OVERFLOW[3], key="a")
        driver.crash()
        driver.recover()
        driver.send("in", -math.inf, key="a")
        sums_seen = [record.value for record in driver.read("out")]
        assert sums_seen[:4] == [1.5, 1e308, math.inf, math.inf]
        assert math.isnan(sums_seen[4])


@pytest.mark.parametrize("pause_s", [0, 11])
def test_a_deleted_state_stays_deleted(pause_s: float) -> None:
    """DELETE before a checkpoint, or after it, is made again by a replay and not undone by it."""

    def keep(state: str, value: str) -> str | kstash.Deletion:
        return kstash.DELETE if value == "-" else state + value

    app = App("keeps")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.aggregate("s", str, keep, value=kstash.text).to("out")
    with TestDriver(app) as driver:
        for value in ("a", "-", "b", "c", "-"):
            driver.send("in", value, key="k")
            driver.advance(pause_s)
        driver.crash()
        driver.recover()
        assert driver.state("s") == {}
        driver.send("in", "d", key="k")
        assert [r.value for r in driver.read("out")] == ["a", None, "b", "bc", None, "d"]


def test_keys_are_equal_when_their_bytes_are() -> None:
    """0.0 and -0.0 are two keys, before a restart and after it; Python's dict knows one."""
    app = App("zeros")
    app.stream("in", key=kstash.float_text).count("n").to("out")
    with TestDriver(app) as driver:
        for _ in range(2):
            driver.send("in", b"", key=0.0)
            driver.send("in", b"", key=-0.0)
            driver.advance(11)
            driver.crash()
            driver.recover()
        assert [(str(r.key), r.value) for r in driver.read("out")] == [
            ("0.0", 1),
            ("-0.0", 1),
            ("0.0", 2),
            ("-0.0", 2),
        ]
        with pytest.raises(ValueError, match=r"keys that are equal: \[-0.0, 0.0\]"):
            driver.state("n")
