"""What `KeyedStream.process` and `Stream.side` declare."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde
from kstash.surface.checks import check_function, check_name, check_serde
from kstash.topology import nodes as n
from kstash.topology.keyed_state import KeyedState, Map
from kstash.topology.process_node import Process
from kstash.topology.processor import Processor
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # which makes streams
    from kstash.surface.keyed import KeyedStream
    from kstash.surface.streams import Stream

_TAKEN = frozenset({"time", "expiry", "wall"})
"""Stores that the operator has beside its states."""

_SENT = "what a processor makes is sent by context.send(value)"
"""What stands for a yield, in words for people."""


def processed(
    stream: KeyedStream[Any, Any],
    name: str,
    processor: object,
    *,
    value: Serde[Any],
    key: Serde[Any] | None,
) -> Stream[Any, Any]:
    """The stream of what a processor sends."""
    location = user_location()
    check_name(name, location)
    check_serde("value", value, location, is_needed=True)
    check_serde("key", key, location)
    kind = _class_of(processor, location)
    states = _states_of(kind, location)
    return declared(
        stream,
        Process,
        location,
        name=name,
        value=value,
        make=_maker(processor),
        states=states,
        sides=_sides_of(kind, location),
        has_timers=kind.on_timer is not Processor.on_timer,
        has_wall_timers=kind.on_wall_timer is not Processor.on_wall_timer,
        result_key=key,
    )


def declared(
    stream: KeyedStream[Any, Any],
    kind: type[Process],
    location: str,
    *,
    name: str,
    value: Serde[Any],
    make: Callable[[], Processor[Any, Any, Any]],
    states: dict[str, KeyedState],
    sides: tuple[str, ...] = (),
    has_timers: bool = False,
    has_wall_timers: bool = False,
    result_key: Serde[Any] | None = None,
    measures: tuple[tuple[str, int | str], ...] = (),
) -> Stream[Any, Any]:
    """Add the node of a processor, and take the names of its stores."""
    key = stream._key_serde
    assert key is not None, "a keyed stream has one"
    node = stream._graph.add(
        lambda index: kind(
            index,
            (stream._node,),
            location,
            name=name,
            key=key,
            value=value,
            make=make,
            states=states,
            sides=sides,
            has_timers=has_timers,
            has_wall_timers=has_wall_timers,
            result_key=result_key,
            measures=measures,
        )
    )
    if result_key is None:
        return stream._of_other_values(node, value)
    reason = f"process({name!r}) gives results keys of their own"
    return stream._graph.stream(node, key=result_key, value=value, unkeyed=reason)


def side_of(
    stream: Stream[Any, Any], name: str, value: Serde[Any] | None
) -> tuple[n.Node, Serde[Any] | None]:
    """The node of a side output, and the serde of what is sent there."""
    location = user_location()
    check_serde("value", value, location)
    parent = stream._node
    sides = parent.side_outputs
    if sides is None:
        raise TopologyError(
            "side() is of what process(), dedup() or throttle() returned, and of no other stream: "
            "call it there",
            location,
        )
    if not isinstance(name, str) or name not in sides:
        operator = cast("Process", parent)  # nothing else has such outputs
        raise TopologyError(
            f"{operator.verb}({operator.name!r}) has no side output {short_repr(name)}: "
            f"its sides are {list(sides)}",
            location,
        )
    if value is None and parent.are_sides_alike:
        value = stream._value_serde
    return stream._graph.port(parent, name, location), value


def _class_of(processor: object, location: str) -> type[Processor[Any, Any, Any]]:
    kind = processor if isinstance(processor, type) else type(processor)
    if not issubclass(kind, Processor) or kind is Processor:
        raise TopologyError(
            f"process takes a subclass of kstash.Processor, or an instance of one, not "
            f"{short_repr(processor)}",
            location,
        )
    if inspect.isabstract(kind):
        raise TopologyError(f"{kind.__name__} has no on_record", location)
    for function, given in (
        (kind.on_record, "record"),
        (kind.on_timer, "timer"),
        (kind.on_wall_timer, "timer"),
    ):
        takes = ("self", given, "context")
        check_function("process", function, location, *takes, instead=_SENT)
    if isinstance(processor, type):
        try:
            inspect.signature(kind).bind()
        except TypeError as error:
            raise TopologyError(
                f"{kind.__name__} is made with arguments ({error}): give process an instance, of "
                "which each task gets a copy",
                location,
            ) from None
    return kind


def _maker(processor: Any) -> Callable[[], Processor[Any, Any, Any]]:
    return processor if isinstance(processor, type) else lambda: copy.copy(processor)


def _states_of(kind: type, location: str) -> dict[str, KeyedState]:
    """By attribute, what a class of processors keeps; as it declares it, its bases first."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base))
    states = {name: state for name, state in found.items() if isinstance(state, KeyedState)}
    names = set[str]()
    for state in states.values():
        check_serde("serde", state.serde, location, is_needed=True)
        if isinstance(state, Map):
            check_serde("key", state.key_serde, location, is_needed=True)
        check_name(state.name, location)
        if state.name in names or state.name in _TAKEN:
            raise TopologyError(
                f"{kind.__name__} keeps {state!r} under a name that is taken: another one is free",
                location,
            )
        names.add(state.name)
    return states


def _sides_of(kind: type[Processor[Any, Any, Any]], location: str) -> tuple[str, ...]:
    sides: Any = kind.sides
    if not isinstance(sides, list | tuple):
        raise TopologyError(
            f"sides of {kind.__name__} are a tuple of names, not {short_repr(sides)}", location
        )
    for side in sides:
        check_name(side, location)
        if side == "out" or list(sides).count(side) > 1:
            raise TopologyError(f"the side output {side!r} needs another name", location)
    return tuple(sides)
