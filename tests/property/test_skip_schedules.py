"""Whatever record an operator names to be passed over, whenever: one history (H50, H51).

It is one with the record or without it, and no output is lost to another one.

`KSTASH_SKIP_SEEDS=2000 pytest tests/property/test_skip_schedules.py` runs more schedules.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

import kstash
from kstash import App
from kstash.errors import SkipTooLateError
from kstash.testing import TestDriver
from tests.property.fleet import chained

SEEDS = int(os.environ.get("KSTASH_SKIP_SEEDS", "15"))
MOVES = 40
INPUTS = ("left", "right")


def chains() -> App:
    """Two topics, two stages: words are spread by their letter, and each chain keeps a hash."""
    app = App("fleet", checkpoint_interval_ms=2_000)
    lines = app.stream(*INPUTS, value=kstash.text).flat_map(str.split)
    keyed = lines.key_by(lambda word: word[0], key=kstash.text, value=kstash.text)
    keyed.aggregate("chains", str, chained, value=kstash.text).to("links", value=kstash.text)
    return app


class Schedule:
    """One application, crashed and started again with records to pass over, named at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.app = chains()
        self.driver = TestDriver(self.app, lineage_delay_s=self.random.choice((0, 0.4)))
        self.lines: dict[tuple[str, int], list[str]] = {}
        self.links: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.words = 0

    def send(self) -> None:
        """A line of one to four words."""
        topic = self.random.choice(INPUTS)
        offset = self.driver.kafka.log((topic, 0)).end_offset
        count = self.random.randrange(1, 5)
        words = [f"{self.random.choice('ab')}{self.words + number}" for number in range(count)]
        self.words += count
        self.lines[topic, offset] = words
        self.driver.send(topic, " ".join(words))
        self.read_links()

    def read_links(self) -> None:
        """Note what a reader has seen."""
        self.links += [record.value for record in self.driver.read("links")]

    def seen(self) -> set[str]:
        """Words whose outputs were seen."""
        return {link.split()[0] for link in self.links}

    def restart(self) -> None:
        """Crash, while some records wait; start with a name, and without when that is refused."""
        self.driver.crash()
        for _ in range(self.random.randrange(3)):
            self.send()
        (topic, offset), words = self.random.choice(
            sorted(self.lines.items()) or [(("left", 9), [])]
        )
        place = f"{topic}/0/{offset}"
        was_seen = bool(self.seen() & set(words))
        self.driver.rig.config = self.app.config.override(skip_records=place)
        try:
            self.driver.recover()
            assert not was_seen or self.skipped[place], f"{place} was out, and was passed over"
            self.skipped[place] = 1
        except SkipTooLateError:
            assert not self.skipped[place], f"{place} was passed over before, and was refused"
            self.driver.rig.config = self.app.config
            self.driver.recover()
        self.read_links()

    def check(self) -> None:
        """Each word that was not passed over is in its chain once, and the chains follow."""
        self.driver.advance(3)
        self.read_links()
        states: dict[str, str] = {}
        for link in self.links:
            word = link.split()[0]
            states[word[0]] = chained(states.get(word[0], ""), word)
            assert link == states[word[0]]
        expected = [
            word
            for (topic, offset), words in self.lines.items()
            if not self.skipped[f"{topic}/0/{offset}"]
            for word in words
        ]
        assert Counter(link.split()[0] for link in self.links) == Counter(expected)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_named_records_and_no_others_are_passed_over(seed: int) -> None:
    """Some are named in time, some too late, some again; the seed is the test's parameter."""
    schedule = Schedule(seed)
    moves = {"send": 8, "restart": 2, "pause": 1}
    for move in schedule.random.choices(list(moves), list(moves.values()), k=MOVES):
        if move == "pause":
            schedule.driver.advance(schedule.random.choice((0.1, 1, 3)))
        elif move == "send" or schedule.lines:
            getattr(schedule, move)()
    schedule.check()
    schedule.driver.close()
