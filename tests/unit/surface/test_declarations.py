"""What is refused as it is written down, with its line, and not at the first record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kstash
from kstash import App, ConfigError, KeyedStream
from kstash.errors import TopologyError
from kstash.settings import derived
from kstash.surface.words import APP_WORDS, STREAM_WORDS

HERE = Path(__file__).name


@pytest.fixture
def app() -> App:
    """An application without a declaration."""
    return App("declared")


@pytest.fixture
def stream(app: App) -> KeyedStream[Any, Any]:
    """A stream that state can follow."""
    return app.stream("in", key=kstash.text, value=kstash.text)


async def waits(value: Any) -> Any:
    """A coroutine function."""
    return value


async def waits_for_many(value: Any) -> AsyncIterator[Any]:
    """An asynchronous generator function."""
    yield value


def yields(value: Any) -> Iterator[Any]:
    """A generator function."""
    yield value


class Waiting:
    """An object that is called as a coroutine function."""

    async def __call__(self, value: Any) -> Any:
        """Wait."""
        return value


def none() -> Any:
    """Takes nothing."""
    return {}


def one(value: Any) -> Any:
    """Takes a value."""
    return value


def two(key: Any, value: Any) -> Any:
    """Takes two."""
    return key, value


Verb = Callable[[KeyedStream[Any, Any], Any], object]
ONE_VALUE: dict[str, Verb] = {
    "map": lambda s, f: s.map(f),
    "map_values": lambda s, f: s.map_values(f),
    "flat_map": lambda s, f: s.flat_map(f),
    "flat_map_values": lambda s, f: s.flat_map_values(f),
    "filter": lambda s, f: s.filter(f),
    "filter_not": lambda s, f: s.filter_not(f),
    "peek": lambda s, f: s.peek(f),
    "split": lambda s, f: s.split(one, f),
    "key_by": lambda s, f: s.key_by(f, key=kstash.text),
}
FOLDS: dict[str, Verb] = {
    "reduce": lambda s, f: s.reduce("r", f),
    "aggregate": lambda s, f: s.aggregate("a", none, f, value=kstash.json),
}
GENERATING = ("flat_map", "flat_map_values")


def refused(verb: Verb, stream: KeyedStream[Any, Any], function: object) -> str:
    """The words of the refusal, which name this file."""
    with pytest.raises(TopologyError) as caught:
        verb(stream, function)
    assert HERE in str(caught.value.location)
    return str(caught.value)


@pytest.mark.parametrize("name", [*ONE_VALUE, *FOLDS])
@pytest.mark.parametrize(
    "function",
    [waits, waits_for_many, functools.partial(waits), Waiting()],
    ids=["async", "async generator", "partial", "object"],
)
def test_async_functions_are_refused(
    name: str, function: object, stream: KeyedStream[Any, Any]
) -> None:
    """Nobody would await them: a filter would keep all, and a map make coroutines of values."""
    text = refused((ONE_VALUE | FOLDS)[name], stream, function)
    assert f"{name} needs a plain function" in text
    assert "async" in text


@pytest.mark.parametrize("name", [*ONE_VALUE, *FOLDS])
def test_generators_are_refused_but_where_their_values_are_used(
    name: str, stream: KeyedStream[Any, Any]
) -> None:
    """A generator function runs nothing when it is called."""
    if name in GENERATING:
        ONE_VALUE[name](stream, yields)
        return
    text = refused((ONE_VALUE | FOLDS)[name], stream, yields)
    assert f"yields at {__file__}" in text
    assert "flat_map takes generators" in text


@pytest.mark.parametrize("name", ONE_VALUE)
def test_functions_of_one_value(name: str, stream: KeyedStream[Any, Any]) -> None:
    """None or two arguments are refused; who wants the key is told of `records`."""
    assert "calls its function as f(value)" in refused(ONE_VALUE[name], stream, none)
    assert "puts records() before it" in refused(ONE_VALUE[name], stream, two)


@pytest.mark.parametrize("name", FOLDS)
def test_functions_of_state_and_value(name: str, stream: KeyedStream[Any, Any]) -> None:
    """One argument is refused, two are right."""
    assert "calls its function as f(state, value)" in refused(FOLDS[name], stream, one)
    FOLDS[name](stream, two)


def test_the_beginning_of_a_state_takes_nothing(stream: KeyedStream[Any, Any]) -> None:
    """`initial` makes a new state each time."""
    for wrong in (one, 0, yields, waits):
        refused(lambda s, f: s.aggregate("a", f, two, value=kstash.json), stream, wrong)
    stream.aggregate("a", dict, two, value=kstash.json)


def test_what_can_be_called_is_taken(stream: KeyedStream[Any, Any]) -> None:
    """Methods, types, C functions, partials, wrappers, defaults: whatever takes one value."""

    @functools.wraps(two)
    def wrapper(value: Any) -> Any:
        return two("key", value)

    def many(*values: Any, **names: Any) -> Any:
        return values, names

    rest: list[Any] = []
    functions: list[Any] = [
        *(str.upper, len, int, dict, str, rest.append, print, max, "{}".format, type),
        *(functools.partial(two, "key"), functools.lru_cache(one), wrapper, many),
        *(lambda value, other=1: (value, other), inspect.signature),
    ]
    for function in functions:
        stream.map(function)


def test_serdes_whose_functions_cannot_work(app: App) -> None:
    """They are looked at where the serde is used."""
    for wrong in (none, two, waits, yields, "text"):
        with pytest.raises(TopologyError, match="serde 'mine': serialize"):
            app.stream("a", value=kstash.Serde("mine", wrong, one))  # type: ignore[arg-type]
        with pytest.raises(TopologyError, match="serde 'mine': deserialize"):
            app.stream("a", key=kstash.Serde("mine", one, wrong))  # type: ignore[arg-type]


def test_callbacks_of_run(app: App, stream: KeyedStream[Any, Any]) -> None:
    """They are looked at before anything is connected."""
    stream.to("out")
    with pytest.raises(TopologyError, match=r"on_ready calls its function as f\(\)"):
        app.run(on_ready=one)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"on_end calls its function as f\(state\)"):
        app.run("end", on_end=none)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="on_end needs a plain function"):
        app.run("end", on_end=waits)  # type: ignore[arg-type]


# --- settings -----------------------------------------------------------------------------------


def test_settings_that_are_meant_otherwise_are_taken() -> None:
    """Paths, lists and words in other letters."""
    app = App(
        "meant",
        state_dir=Path("a") / "b",
        checkpoint_store=Path("/c"),
        bootstrap_servers=["one:1", "two:2"],
        skip_records=("in/0/1", "in/0/2"),
        drop_stores=["a", "b"],
        log_level="INFO",
        log_format="JSON",
        guarantee="At-Least-Once",
        auto_offset_reset="LATEST",
    )
    config = app.config
    assert (config.state_dir, config.checkpoint_store) == ("a/b", "file:///c")
    assert config.bootstrap_servers == "one:1,two:2"
    assert [str(place) for place in derived.skipped_places(config)] == ["in/0/1", "in/0/2"]
    assert config.drop_stores == ("a", "b")
    assert (config.log_level, config.log_format) == ("info", "json")
    assert (config.guarantee, config.auto_offset_reset) == ("at_least_once", "latest")
    app.configure(log_level="WARN")
    assert app.config.log_level == "warning"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bootstrap_servers": [1]}, "setting bootstrap_servers"),
        ({"log_level": "loud"}, "setting log_level"),
        ({"checkpoint_store": "/c"}, "setting checkpoint_store"),
        ({"checkpoint_interval": 1}, "did you mean 'checkpoint_interval_ms'?"),
        ({"statedir": "x"}, "did you mean 'state_dir'?"),
        ({"zzz": 1}, "unknown setting 'zzz', `kstash config show` lists all"),
        ({"broker": "x"}, "use bootstrap_servers"),
        ({"group_id": "x"}, "use application_id"),
        ({"security.protocol": "SSL"}, "is given by kafka={'security.protocol': ...}"),
    ],
)
def test_settings_that_are_not_known(settings: dict[str, Any], words: str) -> None:
    """The nearest name where there is one, the place of another library's word, else neither."""
    with pytest.raises(ConfigError) as caught:
        App("wrong", **settings)
    assert words in str(caught.value)


# --- words of other libraries -------------------------------------------------------------------


@pytest.mark.parametrize("word", STREAM_WORDS)
def test_a_verb_of_another_library(word: str, stream: KeyedStream[Any, Any]) -> None:
    """It says what to use, and where; for `hasattr` it is as any other missing name."""
    with pytest.raises(TopologyError, match=f"Stream has no '{word}': ") as caught:
        getattr(stream, word)(one)
    assert isinstance(caught.value, AttributeError)
    assert HERE in str(caught.value.location)
    assert not hasattr(stream, word)
    assert not hasattr(KeyedStream, word)


@pytest.mark.parametrize("word", APP_WORDS)
def test_a_word_of_another_library(word: str, app: App) -> None:
    """The same of the application."""
    with pytest.raises(TopologyError, match=f"App has no '{word}': "):
        getattr(app, word)
    assert not hasattr(App, word)


def test_a_stream_is_no_table_and_no_loop(stream: KeyedStream[Any, Any]) -> None:
    """`stream["column"]`, its assignment and `for` say what to use, with the line."""
    tried: Any = stream

    def assign() -> None:
        tried["total"] = 1

    for attempt in (lambda: tried["total"], assign):
        with pytest.raises(TopologyError, match="a Stream has no columns") as caught:
            attempt()
        assert HERE in str(caught.value.location)
    for attempt in (lambda: list(tried), lambda: aiter(tried)):
        with pytest.raises(TopologyError, match="a Stream cannot be looped over"):
            attempt()


def test_what_is_advised_is_there(app: App, stream: KeyedStream[Any, Any]) -> None:
    """Each method that a hint names can be called."""
    known = {*dir(App), *dir(KeyedStream), "topology", "describe", "f", "map_values", "fromkeys"}
    texts = {*STREAM_WORDS.values(), *APP_WORDS.values()}
    for text in texts:
        for word in text.replace("(", " ( ").split():
            if word.startswith("."):
                assert word.lstrip(".") in known, text
    marked = stream.map_values(lambda value: ["left", value])
    marked.merge(marked).aggregate("joined", dict, two, value=kstash.json)
    minutes = stream.records().key_by(
        lambda record: [record.key, record.timestamp_ms // 60_000], key=kstash.json
    )
    minutes.count("per minute".replace(" ", "-")).to("out")
    stream.reduce("newest", lambda old, new: new or old).to("table", delivery="transactional")
    assert len(app.topology().stages) == 2


def test_unknown_words_are_as_in_any_class(app: App, stream: KeyedStream[Any, Any]) -> None:
    """Python suggests the nearest name itself."""
    owners: tuple[Any, ...] = (app, stream)
    for owner in owners:
        with pytest.raises(AttributeError, match="object has no attribute 'frobnicate'") as caught:
            owner.frobnicate  # noqa: B018 - the access is what fails
        assert not isinstance(caught.value, TopologyError)


def forgets(value: Any) -> Any:
    """Has no `return`."""
    value.strip()


def forgets_two(state: Any, value: Any) -> Any:
    """Has none either."""
    state[value] = 1


def forgets_at_times(value: Any) -> Any:
    """Has one."""
    if value:
        return value
    return None


def fails(value: Any) -> Any:
    """Never returns."""
    raise ValueError(value)


def prints(value: Any) -> None:
    """What `peek` is for."""
    print(value)


@pytest.mark.parametrize("verb", sorted((ONE_VALUE | FOLDS).keys() - {"peek"}))
def test_a_forgotten_return_is_refused(verb: str, stream: KeyedStream[str, str]) -> None:
    """Of a function that can return None only; it would be null, or false, for all records."""
    with pytest.raises(TopologyError, match=r"forgets(_two)? at .*: is a `return` forgotten\?"):
        (ONE_VALUE | FOLDS)[verb](stream, forgets if verb in ONE_VALUE else forgets_two)


def test_what_may_return_none(stream: KeyedStream[str, str]) -> None:
    """At times, by a lambda, never at all, or where nobody asks."""
    for function in (forgets_at_times, lambda _: None, fails):
        stream.map_values(function)
    stream.peek(prints)
