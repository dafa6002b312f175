"""The soak's judgement: what grows is found, what wavers is not."""

from __future__ import annotations

import random

from tests.chaos.soak import Samples, grown, growth, report

SAMPLE_TIMES = [float(minute) for minute in range(60)]


def test_a_slope_is_measured_over_the_second_half() -> None:
    """A figure that climbs at first and is flat later has not grown; one that climbs later has."""
    early = [(at, min(at, 29.0)) for at in SAMPLE_TIMES]
    late = [(at, max(at, 30.0)) for at in SAMPLE_TIMES]
    assert abs(growth(early)) < 0.5
    assert round(growth(late)) == 29


def test_a_leak_is_found_and_noise_is_not() -> None:
    """A steady leak is found although it hides in noise; noise alone is not a leak."""
    noise = random.Random(1)
    samples: Samples = {
        ("rss_bytes", "quiet"): [(at, 200e6 + noise.uniform(-5e6, 5e6)) for at in SAMPLE_TIMES],
        ("rss_bytes", "leaky"): [
            (at, 200e6 + at * 1e6 + noise.uniform(-5e6, 5e6)) for at in SAMPLE_TIMES
        ],
        ("open_files", "leaky"): [(at, 100 + at) for at in SAMPLE_TIMES],
        ("live_bytes", "sawtooth"): [(at, 5e5 + (at % 7) * 1e5) for at in SAMPLE_TIMES],
    }
    found = grown(samples)
    assert len(found) == 2
    assert found[0].startswith("rss_bytes of leaky grew by")
    assert found[1].startswith("open_files of leaky grew by")
    assert "| live_bytes | sawtooth | 500,000 |" in report(samples)
