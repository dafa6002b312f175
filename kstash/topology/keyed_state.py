"""KeyedState that a processor declares: one value, a map or a list for each key.

Here is what is declared, and what a user's code calls. What it does with the stores of a task is
`kstash.operators.process.states`, which has a class for each of these.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, NoReturn, TypeVar, overload

from kstash.errors import TopologyError, UnknownWordError
from kstash.ports.state import StoreKind
from kstash.serdes import Serde
from kstash.topology.intervals import check_interval
from kstash.topology.item_lists import list_of
from kstash.topology.pairs import pair_of
from kstash.topology.traits import KeyedStore
from kstash.topology.user_code import user_location

T = TypeVar("T")
D = TypeVar("D")
MK = TypeVar("MK")
MV = TypeVar("MV")


class KeyedState(ABC):
    """What a processor keeps for each key, declared as an attribute of its class.

    What is read was always written by the serde: a list for a tuple under json, and a change of
    what was read is no change of the state until it is set.

    Attributes:
        name: of the state, unique in its processor; its store is `<operator>.<name>`.
        attribute: of the processor, where it stands.
        serde: of what is kept.
        ttl_ms: how long it stays, from the last time that it was written, in the stream time of the
            operator; None: until it is deleted.
    """

    # Completion shows users what their code calls: all that is of the engine is private.
    _verb: ClassVar[str]
    _kind: ClassVar[StoreKind] = StoreKind.KEYED
    _how_to_set: ClassVar[str]
    _how_to_delete: ClassVar[str] = "clear()"

    def __init__(self, name: str, serde: Serde[Any], *, ttl: timedelta | None = None) -> None:
        self.name = name
        self.attribute = name
        self.serde = serde
        self.ttl_ms: int | None = None
        if ttl is not None:
            self.ttl_ms = check_interval(f"ttl of {name!r}", ttl, user_location(), least=1)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    # A state stands in the instance while it is bound: what is here is for the user's code alone.

    def __set__(self, processor: object, value: Never) -> NoReturn:
        self._is_not_assigned(processor, "set", self._how_to_set)

    def __delete__(self, processor: object) -> NoReturn:
        self._is_not_assigned(processor, "deleted", self._how_to_delete)

    def _is_not_assigned(self, processor: object, verb: str, call: str) -> NoReturn:
        name = self.attribute
        raise TopologyError(
            f"{type(processor).__name__}.{name} is a state, which is {verb} by "
            f"self.{name}.{call}: an assignment or del would put an attribute in its place that no "
            "restart finds, and that all keys see",
            user_location(),
        )

    def _canonical(self) -> list[Any]:
        """What of it goes into the topology hash, its time to live where it has one.

        That may change after a drain: what it holds does not depend on it.
        """
        lives = [] if self.ttl_ms is None else [self.ttl_ms]
        return [self._verb, self.name, self.serde.name, *lives]

    def _store(self, operator: str, key: Serde[Any]) -> KeyedStore:
        """Its store, for an operator with keys of this serde."""
        name = f"{operator}.{self.name}" if self.name else operator
        return KeyedStore(name, self._verb, key, self.serde, self._kind, is_stamped=True)

    def _is_not_bound(self) -> NoReturn:
        raise TopologyError(
            f"{self!r} is read and written while a processor is given a record or a timer: declare "
            "it as an attribute of the class of the processor, and use it in its methods",
            user_location(),
        )


class Value(KeyedState, Generic[T]):
    """One value for each key.

    ```python
    class Last(kstash.Processor[str, int, int]):
        seen = kstash.Value("seen", kstash.int_text, ttl=timedelta(days=1))
    ```
    """

    _verb = "value"
    _how_to_set = "set(value)"
    _how_to_delete = "delete()"

    def __init__(self, name: str, serde: Serde[T], *, ttl: timedelta | None = None) -> None:
        super().__init__(name, serde, ttl=ttl)

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: D) -> T | D: ...

    def get(self, default: Any = None) -> Any:  # noqa: ARG002 - what is bound uses it
        """The value of the present key, or `default`."""
        self._is_not_bound()

    def set(self, value: T) -> None:  # noqa: ARG002
        """Keep a value, not None.

        Raises:
            SerdeError: the serde does not take it.
        """
        self._is_not_bound()

    def delete(self) -> None:
        """Forget the value; where there is none, nothing happens."""
        self._is_not_bound()

    if not TYPE_CHECKING:  # a type checker refuses them by itself

        def __add__(self, _: object) -> NoReturn:
            name = self.attribute
            raise TopologyError(
                f"{self!r} is no value to reckon or compare with: self.{name}.get(0) reads it, and "
                f"self.{name}.set(self.{name}.get(0) + 1) adds to it",
                user_location(),
            )

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__


class Map(KeyedState, Generic[MK, MV]):
    """Any number of entries for each key, each of which is loaded by itself.

    Entries are in the order of the bytes of their keys: under `text` that of the characters'
    numbers, under `int_text` not that of the numbers.
    """

    _verb = "map"
    _kind = StoreKind.ORDERED
    _how_to_set = "set(key, value), entry by entry"

    def __init__(
        self, name: str, *, key: Serde[MK], value: Serde[MV], ttl: timedelta | None = None
    ) -> None:
        super().__init__(name, value, ttl=ttl)
        self.key_serde: Serde[MK] = key

    def _canonical(self) -> list[Any]:
        """The serde of its keys too."""
        return [*super()._canonical(), self.key_serde.name]

    def _store(self, operator: str, key: Serde[Any]) -> KeyedStore:
        """Its keys are pairs of the key of the record and that of the entry."""
        return super()._store(operator, pair_of(key, self.key_serde))

    @overload
    def get(self, key: MK) -> MV | None: ...
    @overload
    def get(self, key: MK, default: D) -> MV | D: ...

    def get(self, key: MK, default: Any = None) -> Any:  # noqa: ARG002
        """The value of an entry, or `default`."""
        self._is_not_bound()

    def set(self, key: MK, value: MV) -> None:  # noqa: ARG002
        """Keep an entry; neither its key nor its value is None.

        Raises:
            SerdeError: a serde does not take it.
        """
        self._is_not_bound()

    def delete(self, key: MK) -> None:  # noqa: ARG002
        """Forget an entry; where there is none, nothing happens."""
        self._is_not_bound()

    def __contains__(self, key: object) -> bool:
        self._is_not_bound()

    def items(self, start: MK | None = None, end: MK | None = None) -> Iterator[tuple[MK, MV]]:  # noqa: ARG002
        """Entries in the order of their keys, read some at a time.

        Entries may be set and deleted meanwhile: those after the present one are seen as they are
        when their turn comes.

        Args:
            start: the first key, or what would stand before it; None: the first of all.
            end: what stands after the last key; None: all from `start` on.
        """
        self._is_not_bound()

    def __iter__(self) -> Iterator[MK]:
        """The keys of the entries, in their order, as `items` reads them."""
        self._is_not_bound()

    def __len__(self) -> int:
        """How many entries there are: it reads all of them."""
        self._is_not_bound()

    def __bool__(self) -> bool:
        """Whether there is an entry: it reads one."""
        self._is_not_bound()

    def clear(self) -> None:
        """Forget all entries of the key."""
        self._is_not_bound()

    if not TYPE_CHECKING:  # a type checker refuses them by itself

        def __getitem__(self, *_: object) -> NoReturn:
            raise TopologyError(
                f"{self!r} has no brackets: an entry is read by get(key), kept by set(key, value) "
                "and forgotten by delete(key); dict(self.name.items()) has all of them",
                user_location(),
            )

        __setitem__ = __delitem__ = __getitem__


class List(KeyedState, Generic[T]):
    """Items for each key, in the order in which they were appended.

    It is loaded as a whole, for some thousands of items: a `Map` is for more. With a time to live
    each item goes by itself, counted from when it was appended.
    """

    _verb = "list"
    _how_to_set = "append(item), or clear() and extend(items)"

    def _store(self, operator: str, key: Serde[Any]) -> KeyedStore:
        """One list for each key."""
        return replace(super()._store(operator, key), value=list_of(self.serde))

    def __init__(self, name: str, serde: Serde[T], *, ttl: timedelta | None = None) -> None:
        super().__init__(name, serde, ttl=ttl)

    def append(self, item: T) -> None:
        """Add an item, not None, at the end.

        Raises:
            SerdeError: the serde does not take it.
        """
        self.extend((item,))

    def extend(self, items: Iterable[T]) -> None:  # noqa: ARG002
        """Add items, none of them None, at the end.

        Raises:
            SerdeError: the serde does not take one.
        """
        self._is_not_bound()

    def __iter__(self) -> Iterator[T]:
        """The items as they are now: what is appended meanwhile is not among them."""
        self._is_not_bound()

    def __len__(self) -> int:
        self._is_not_bound()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """An item by its number, from the end below 0; of a slice a list.

        Raises:
            IndexError: there are fewer items.
        """
        self._is_not_bound()

    def clear(self) -> None:
        """Forget all items of the key."""
        self._is_not_bound()

    if not TYPE_CHECKING:  # a type checker refuses them by itself

        def __setitem__(self, *_: object) -> NoReturn:
            raise TopologyError(self._how_to_change(), user_location())

        __delitem__ = __setitem__

        def __getattr__(self, name: str) -> NoReturn:
            if hasattr(list, name):
                raise UnknownWordError(self._how_to_change(), user_location())
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _how_to_change(self) -> str:
        return (
            f"{self!r} is added to by append and extend: for other changes take list(...) of it, "
            "call clear(), and extend it by what is left"
        )
