"""The verbs of keyed streams that run a processor which comes with kstash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from kstash.serdes import Serde, json, raw
from kstash.surface.checks import check_function, check_name, check_number, check_serde
from kstash.surface.process import declared
from kstash.topology import ready_processors as r
from kstash.topology.intervals import check_interval, interval_text
from kstash.topology.keyed_state import Map, Value
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # which makes streams
    from kstash.surface.keyed import KeyedStream
    from kstash.surface.streams import Stream

_PASSES_ON: Serde[Any] = raw
"""Stands for the serde of results that are the records themselves: theirs need not be known."""


def with_state(
    stream: KeyedStream[Any, Any],
    name: str,
    initial: Callable[[], Any],
    function: Callable[[Any, Any], Any],
    *,
    state: Serde[Any],
    value: Serde[Any],
) -> Stream[Any, Any]:
    """See `KeyedStream.with_state`."""
    location = user_location()
    check_name(name, location)
    check_function("with_state", initial, location)
    check_function("with_state", function, location, "state", "value")
    check_serde("state", state, location, is_needed=True)
    check_serde("value", value, location, is_needed=True)
    return declared(
        stream,
        r.WithState,
        location,
        name=name,
        value=value,
        make=partial(r.StateFunction, initial, function),
        states={"state": Value("", state)},
    )


def dedup(
    stream: KeyedStream[Any, Any], name: str, id_of: Callable[[Any], Any], within: timedelta
) -> Stream[Any, Any]:
    """See `KeyedStream.dedup`."""
    location = user_location()
    check_name(name, location)
    check_function("dedup(id=)", id_of, location, "value")
    within_ms = check_interval("dedup(within=)", within, location, least=1)
    made = declared(
        stream,
        r.Dedup,
        location,
        name=name,
        value=_PASSES_ON,
        make=partial(r.Repeats, id_of),
        states={"seen": Map("seen", key=json, value=raw, ttl=within)},
        sides=r.Repeats.sides,
        measures=(("within", interval_text(within_ms)),),
    )
    return replace(made, _value_serde=stream._value_serde)


def throttle(
    stream: KeyedStream[Any, Any], name: str, at_most: int, within: timedelta
) -> Stream[Any, Any]:
    """See `KeyedStream.throttle`."""
    location = user_location()
    check_name(name, location)
    check_number("throttle(at_most=)", at_most, location)
    within_ms = check_interval("throttle(within=)", within, location, least=1)
    made = declared(
        stream,
        r.Throttle,
        location,
        name=name,
        value=_PASSES_ON,
        make=partial(r.Rate, at_most, within_ms),
        states={"passed": Value("", raw, ttl=within)},
        sides=r.Rate.sides,
        measures=(("at_most", at_most), ("within", interval_text(within_ms))),
    )
    return replace(made, _value_serde=stream._value_serde)


def top(
    stream: KeyedStream[Any, Any],
    name: str,
    count: int,
    by: Callable[[Any], Any],
    id_of: Callable[[Any], Any] | None,
    value: Serde[Any],
) -> Stream[Any, Any]:
    """See `KeyedStream.top`."""
    location = user_location()
    check_name(name, location)
    check_number("top(n)", count, location)
    check_function("top(by=)", by, location, "value")
    if id_of is not None:
        check_function("top(id=)", id_of, location, "value")
    check_serde("value", value, location, is_needed=True)
    return declared(
        stream,
        r.Top,
        location,
        name=name,
        value=value,
        make=partial(r.Largest, count, by, id_of),
        states={"best": Value("", value)},
        measures=(("n", count),),
    )
