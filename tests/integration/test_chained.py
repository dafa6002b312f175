"""Two applications in a row, the second of which reads the first one's sink at once."""

from __future__ import annotations

import pytest

from tests.integration.scene import Scene, lines

pytestmark = pytest.mark.integration


def test_the_second_of_two_applications_sees_outputs_once(scene: Scene) -> None:
    """Each output of the first is taken once by the second, though both are killed."""
    source, middle, sink = (
        scene.topic("sentences", 2),
        scene.topic("counts", 2),
        scene.topic("sums"),
    )
    first = scene.worker("words", [source], middle, name="first", checkpoint_interval_ms=500)
    second = scene.worker(
        "relay",
        [middle],
        sink,
        name="second",
        application_id=f"second-{scene.mark}",
        options={"immediate_of": scene.application_id},
        checkpoint_interval_ms=500,
    )
    for worker in (first, second):
        worker.start()
    texts = ["a b c d", "a b"] * 500
    for part, victim in enumerate((first, second, None)):
        for worker in (first, second):
            worker.wait_ready()
        scene.send(source, lines(*texts, partitions=2))
        scene.wait_outputs(sink, part * 3000 + 1)
        if victim is not None:
            victim.kill()
            victim.start()
    scene.wait_outputs(sink, 9000)
    assert [worker.stop() for worker in (first, second)] == [0, 0]
    scene.check_words(middle, texts * 3)
    (outputs,) = scene.outputs(sink).values()
    totals = [int(o.value or b"") for o in outputs]
    assert len(totals) == 9000
    counts = [n for word_count in (3000, 3000, 1500, 1500) for n in range(1, word_count + 1)]
    assert max(totals) == 2 * sum(counts)
    assert totals == sorted(totals)
    assert len(set(totals)) == 9000
