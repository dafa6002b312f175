"""Since when things have not moved, as far as was seen."""

from __future__ import annotations

from kstash.runtime.worker.stillness import Stillness


def test_a_thing_stands_still_from_the_look_that_saw_it_move_last() -> None:
    """Each thing by itself."""
    still = Stillness()
    for now, at in ((10.0, 1), (12.0, 1), (15.0, 2), (19.0, 2)):
        still.begin_look(now)
        still.look_at("moves", at)
        still.look_at("stands", 1)
    assert still.seconds("moves") == 4
    assert still.seconds("stands") == 9


def test_what_has_nothing_to_do_does_not_stand_still() -> None:
    """It counts from the last look that saw it so."""
    still = Stillness()
    for now, should_move in ((0.0, True), (5.0, False), (7.0, True)):
        still.begin_look(now)
        seconds = still.look_at("task", 1, should_move=should_move)
    assert seconds == 2


def test_what_a_look_leaves_out_begins_anew() -> None:
    """A group that was live in between has stood still since then only."""
    still = Stillness()
    still.begin_look(0)
    still.look_at("group", 1)
    still.begin_look(5)
    assert still.seconds("group") == 0
    still.begin_look(9)
    assert still.look_at("group", 1) == 0
