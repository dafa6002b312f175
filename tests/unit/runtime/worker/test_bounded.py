"""The end of a bounded run as the worker says it. Source: protocol, section 8."""

from __future__ import annotations

import kstash
from kstash import App
from kstash.core.wire import MARKER_HEADER, End, decode_marker
from kstash.testing import TestDriver


def merged() -> App:
    """Counts the words of two merged topics, one hop away."""
    app = App("bounded")
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).repartition("mid").count("counts").to("out", value=kstash.int_text)
    return app


def ends(driver: TestDriver) -> list[End]:
    """The ENDs on the internal topic."""
    headers = [dict(r.headers() or []) for r in driver.kafka.read("bounded-mid-repartition")]
    found = (h.get(MARKER_HEADER) for h in headers)
    markers = [decode_marker(data) for data in found if data is not None]
    return [marker for marker in markers if isinstance(marker, End)]


def test_s3_an_end_waits_for_stable_lineage() -> None:
    """S3: after an END that counts, a successor could find another history otherwise."""
    with TestDriver(merged()) as driver:
        driver.close()
        for topic in "lr":
            driver.kafka.append(topic, b"word", key=b"k")
        driver.rig.start(until="end")
        lineage = driver.rig.cluster.links["lineage"]
        lineage.holds_acks = True
        driver.advance(5)
        assert driver.state("counts") == {"k": 2}
        assert ends(driver) == []
        lineage.holds_acks = False
        driver.advance(5)
        (end,) = ends(driver)
        assert (end.position, end.last_seq) == (2, 2)
