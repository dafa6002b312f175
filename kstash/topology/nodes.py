"""The declared graph: frozen nodes that know their parents. Building them runs nothing.

A node depends on its parents *narrowly* (record by record, inside one task) or, behind a wide
`KeyBy`, through an internal topic. Nodes are numbered in the order of their declaration, and a
parent is always declared before its child: the numbers are a topological order.

What a node reads of its input (`reads_key`, `reads_value`) and hands on (`keeps_key`,
`keeps_value`) decides which columns are decoded, carried along and shipped at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kstash.serdes import Serde


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One declared step.

    Attributes:
        index: number in the order of declaration, 0 or more, unique in the application.
        parents: the nodes it reads from; a node may stand there twice.
        location: `file:line` of the user's code.
    """

    index: int
    parents: tuple[Node, ...]
    location: str


@dataclass(frozen=True, slots=True, eq=False)
class Source(Node):
    """Records of one user topic. A key serde of None: the key is opaque bytes."""

    topic: str
    key: Serde[Any]
    value: Serde[Any]
    immediate_of: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Node):
    """A user's function on each value.

    Attributes:
        verb: the method that the user called, which is also its kind.
        action: what becomes of the results: `map`, `flat_map`, `filter`, `filter_not` or `peek`.
        function: called with one value.
    """

    verb: str
    action: str
    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Records(Node):
    """Each value becomes a `Record` of its key, value, timestamp and headers."""


@dataclass(frozen=True, slots=True, eq=False)
class Merge(Node):
    """All records of all parents."""


@dataclass(frozen=True, slots=True, eq=False)
class Split(Node):
    """Marks each record with the first predicate that holds; `Branch` nodes take their part."""

    predicates: tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Branch(Node):
    """The records of the `Split` before it that its predicate took; the last one: the rest."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class KeyBy(Node):
    """A new key for each record, and a repartition topic where keyed state follows.

    Attributes:
        function: called with the value; None keeps the key (a plain repartition).
        name: of the edge, or None: that of the stateful operator behind it.
        key: serde of the new key.
        value: serde of the value, or None when it is not known.
    """

    function: Callable[[Any], Any] | None
    name: str | None
    key: Serde[Any]
    value: Serde[Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Stateful(Node):
    """State per key: each record updates it and sends the new state on.

    Attributes:
        verb: `count`, `sum`, `reduce` or `aggregate`.
        name: of the operator, its store, its stage and its repartition topic.
        key: serde of the key.
        value: serde of the state.
        initial: makes the state of a new key (aggregate), else None.
        function: `(state, value) -> state`, or None.
    """

    verb: str
    name: str
    key: Serde[Any]
    value: Serde[Any]
    initial: Callable[[], Any] | None
    function: Callable[[Any, Any], Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Sink(Node):
    """Records leave for a user topic."""

    topic: str
    key: Serde[Any]
    value: Serde[Any]
    delivery: str


def label(node: Node) -> str:
    """What people call a node; stable between runs."""
    match node:
        case Source():
            return f"source({node.topic})"
        case Apply():
            return f"{node.verb}({function_name(node.function)})"
        case Split():
            return f"split({', '.join(map(function_name, node.predicates))})"
        case Branch():
            return f"branch({node.number})"
        case KeyBy():
            if node.function is None:
                return f"repartition({node.name})"
            return f"key_by({function_name(node.function)})"
        case Stateful():
            return f"{node.verb}({node.name})"
        case Sink():
            return f"to({node.topic})"
    return type(node).__name__.lower()


def canonical(node: Node) -> list[Any]:
    """What of a node goes into the topology hash, beside its parents.

    Functions do not: there is no stable name for a lambda.
    """
    kind = type(node).__name__.lower()
    match node:
        case Source():
            return [kind, node.topic, node.key.name, node.value.name, node.immediate_of]
        case Apply():
            return [kind, node.verb]
        case Split():
            return [kind, len(node.predicates)]
        case Branch():
            return [kind, node.number]
        case KeyBy():
            value = node.value.name if node.value else None
            return [kind, node.function is None, node.name, node.key.name, value]
        case Stateful():
            return [kind, node.verb, node.name, node.key.name, node.value.name]
        case Sink():
            return [kind, node.topic, node.key.name, node.value.name, node.delivery]
    return [kind]


def reads_key(node: Node) -> bool:
    """Whether the node itself looks at keys (what stands behind it may look as well)."""
    if isinstance(node, KeyBy):
        return node.function is None
    return isinstance(node, Records | Stateful | Sink)


def reads_value(node: Node) -> bool:
    """Whether the node itself looks at values."""
    if isinstance(node, KeyBy):
        return node.function is not None
    if isinstance(node, Stateful):
        return node.verb != "count"
    return isinstance(node, Apply | Records | Split | Sink)


def keeps_key(node: Node) -> bool:
    """Whether the keys that leave the node are those that entered."""
    return not isinstance(node, Source | KeyBy)


def keeps_value(node: Node) -> bool:
    """Whether the values that leave the node are those that entered."""
    if isinstance(node, Apply):
        return node.action not in ("map", "flat_map")
    return isinstance(node, Merge | Split | Branch | KeyBy)


def function_name(function: Callable[..., Any]) -> str:
    """The short name of a user's function, for labels: `split`, `lambda`, `Parser`."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def function_place(function: Callable[..., Any]) -> str:
    """`name at file:line` of a user's function, or its name where Python knows no line."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    name = function_name(inner)
    return name if code is None else f"{name} at {code.co_filename}:{code.co_firstlineno}"


def user_location() -> str:
    """`file:line` of the innermost caller outside of the library."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        is_application = module.startswith(("kstash.apps.", "kstash.connectors."))
        if is_application or not (module == "kstash" or module.startswith("kstash.")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
