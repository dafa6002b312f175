"""What may come next of a live task. Source: protocol, section 3."""

from __future__ import annotations

import pytest

from kstash.core.ids import UNBOUNDED
from kstash.core.live import (
    Admission,
    LiveRules,
    MayCome,
    may_flush_at_end,
    may_say_end,
)


def test_what_no_record_decides_waits_for_the_ends_of_the_inputs() -> None:
    """Those listed when the task went live: what was appended since is not waited for."""
    rules = LiveRules({0: 5, 1: 3}, 0)
    rules.read(0, 7)
    rules.read(1, 2)
    assert rules.may_come(is_at_end=False) is MayCome.RECORDS
    rules.read(1, 3)
    rules.read(1, 3)
    rules.read(0, 7)
    assert rules.has_caught_up
    assert rules.may_come(is_at_end=False) is MayCome.ANY


def test_inputs_without_records_are_caught_up_with_once_they_are_read() -> None:
    """An end of 0 is reached at offset 0."""
    rules = LiveRules({0: 0}, 0)
    rules.read(0, 0)
    assert rules.may_come(is_at_end=False) is MayCome.ANY


def test_what_no_record_decides_never_follows_the_end() -> None:
    """An END that counts fixes the history."""
    rules = LiveRules({}, 0)
    assert rules.may_come(is_at_end=True) is MayCome.RECORDS
    assert rules.may_come(is_at_end=False) is MayCome.ANY


@pytest.mark.parametrize("waits_for_rest", [False, True])
@pytest.mark.parametrize("may_leave_work", [False, True])
def test_a_group_that_is_given_up_begins_nothing_more(
    waits_for_rest: bool, may_leave_work: bool
) -> None:
    """Its last checkpoint is taken: all else is its successor's."""
    admission = Admission()
    asked = {"waits_for_rest": waits_for_rest, "may_leave_work": may_leave_work}
    assert admission.may_begin(**asked) is not (waits_for_rest and may_leave_work)
    admission.close()
    assert not admission.may_begin(**asked)


def test_logged_times_never_go_back() -> None:
    """Neither by a clock that is set back, nor by the one of another worker."""
    rules = LiveRules({}, 100)
    assert [rules.time_ms(clock) for clock in (90, 120, 110, 121)] == [100, 120, 120, 121]
    assert rules.logged_ms == 121


def test_ends_may_be_listed_later() -> None:
    """Until then nobody can say that they were reached; listed once, they stay."""
    rules = LiveRules({0: UNBOUNDED}, 0)
    rules.read(0, 7)
    assert not rules.has_caught_up
    rules.list_ends({0: 5, 1: 9})
    rules.list_ends({0: 50})
    rules.read(0, 5)
    assert rules.has_caught_up


def test_what_was_logged_is_due_at_once() -> None:
    """The clock may be behind it: who waited for that would wait for long."""
    rules = LiveRules({}, 100)
    assert [rules.due_ms(wanted) for wanted in (90, 100, 101)] == [0, 0, 101]


def test_what_is_flushed_at_an_end_comes_before_it() -> None:
    """Once all is read and until END is said; and END comes when nothing waits and all is there."""
    assert may_flush_at_end(has_read_all=True, has_said_end=False)
    assert not may_flush_at_end(has_read_all=False, has_said_end=False)
    assert not may_flush_at_end(has_read_all=True, has_said_end=True)
    assert may_say_end(has_read_all=True, waits=False, is_durable=True)
    assert not may_say_end(has_read_all=False, waits=False, is_durable=True)
    assert not may_say_end(has_read_all=True, waits=True, is_durable=True)
    assert not may_say_end(has_read_all=True, waits=False, is_durable=False)
