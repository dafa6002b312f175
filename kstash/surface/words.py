"""Words of other libraries: what people try first who know Kafka Streams, Faust, Quix or Bytewax.

An unknown attribute is an error in any case. For these it says what kstash has in its place, since
no nearest name would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from kstash.errors import TopologyError, UnknownWordError
from kstash.topology.user_code import user_location

_JOIN = (
    "kstash has no joins. Merge the streams and keep what each side said in one state: mark the "
    "values by map_values, then left.merge(right).aggregate(name, dict, function, "
    "value=kstash.json)"
)
_WINDOW = (
    "use window(kstash.tumbling(size)), window(kstash.hopping(size, advance)), "
    "window(kstash.daily(zone)), window(kstash.session(gap)) or window(kstash.tumbling_count(n)), "
    "then count, sum, reduce, aggregate, min, max, mean, statistics or collect"
)
_TABLE = (
    "kstash has no tables. The newest value of each key is .reduce(name, lambda old, new: new); "
    'a topic to keep it in is written by .to(topic, delivery="transactional")'
)
_GROUPED = "count, sum, reduce and aggregate work per key as it is: call them at once"
_VALUE = "use map_values, or flat_map_values for any number of new values"
_PROCESS = (
    "use map_values or flat_map_values; with a state for each key, timers or several outputs: "
    "process(name, processor, value=serde). Who needs the key, the time or the headers puts "
    "records() before"
)
_EFFECT = "use peek(function), which passes the record on; it is called again in a replay"
_AGGREGATE = "use aggregate(name, initial, function, value=serde)"
_REDUCE = "use reduce(name, function), such as reduce(name, lambda old, new: new)"
_LEAST = "use min(name) or max(name); once for each window: window(windows, emit='final')"
_ONE = "a function is given one value at a time; keep more than one in the state of aggregate"
_SUPPRESS = (
    "each record sends the new state on at once; one result for each window is sent by "
    "window(windows, emit='final')"
)
_TIMESTAMP = (
    "each output has the timestamp and the headers of its record: use map_records(function), which "
    "gives record.with_(timestamp_ms=ms) back; a source takes timestamp=, a function of the value"
)
_TIMER = (
    "timers are those of a processor: context.timer(name, at=ms) in process(name, processor, "
    "value=serde); they follow the times of records, and are the same in a replay"
)
_TO = "use to(topic)"
_KEY = "use key_by(function, key=serde)"


def _each(words: str, instead: str) -> dict[str, str]:
    return dict.fromkeys(words.split(), instead)


STREAM_WORDS: Mapping[str, str] = {
    **_each(
        "join left_join outer_join inner_join join_asof join_interval join_lookup join_window "
        "cogroup co_group lookup enrich",
        _JOIN,
    ),
    **_each(
        "windowed_by window_by windowed tumbling tumbling_window tumbling_count_window "
        "hopping hopping_window hopping_count_window sliding_window sliding_count_window "
        "session_window count_window fold_window reduce_window collect_window max_window "
        "min_window tumble hop relative_to_now relative_to_stream relative_to_field",
        _WINDOW,
    ),
    **_each("table ktable to_table as_table global_table materialize materialized", _TABLE),
    **_each("to_stream stream", "it is a stream already"),
    **_each("group_by_key grouped by_key", _GROUPED),
    **_each(
        "group_by select_key rekey re_key key_on map_key map_keys with_key set_key keyed_by", _KEY
    ),
    **_each("key_rm drop_key", "kstash keeps the key; use to(topic, key=serde) to write another"),
    **_each(
        "process_values transform transform_values flat_transform flat_transform_values "
        "add_processor stateful_map stateful stateful_flat_map stateful_batch state",
        _PROCESS,
    ),
    **_each("apply map_value mapValues transform_value select assign", _VALUE),
    **_each("flat_map_value flatMap flatMapValues explode expand flatten", "use flat_map_values"),
    **_each("update foreach for_each inspect tap do print print_table log", _EFFECT),
    **_each("filter_value filter_map where drop drop_if reject", "use filter or filter_not"),
    **_each("branch route partition", "use split(*predicates)"),
    **_each("union concat combine", "use merge(*streams)"),
    **_each(
        "to_topic sink output send publish write forward to_kafka write_to produce add_sink", _TO
    ),
    **_each("through rebalance redistribute repartition_by shuffle", "use repartition(name)"),
    **_each("fold fold_final scan accumulate", _AGGREGATE),
    **_each(
        "deduplicate drop_duplicates unique", "use distinct(name), or dedup(name, id=, within=)"
    ),
    **_each("first last", _REDUCE),
    **_each("max_final min_final", _LEAST),
    **_each("avg average", "use mean(name)"),
    **_each(
        "stats std stddev stdev variance var standard_deviation describe_values",
        "use statistics(name), which has count, mean, variance, least and greatest",
    ),
    **_each("agg aggregations multi_aggregate", "use aggregate_all(name, total=folds.sum())"),
    **_each("count_final count_by size", "use count(name)"),
    **_each("take batch batched buffer noack_take chunk", _ONE),
    **_each("suppress final current emit_on_close", _SUPPRESS),
    **_each("items events records_with_key", "use records()"),
    **_each("set_timestamp with_timestamp assign_timestamps set_headers with_headers", _TIMESTAMP),
    **_each("punctuate schedule timer every delay", _TIMER),
    "late": "late() is of what a fold after window() returned, before anything makes other values "
    "of it",
    "describe": "use App.topology().describe()",
    "run": "use App.run()",
}
"""By the method of a stream that was tried."""

APP_WORDS: Mapping[str, str] = {
    **_each(
        "topic dataframe input source from_topic subscribe kstream read add_source consume sdf "
        "channel from_source",
        "use stream(topic, key=serde, value=serde)",
    ),
    **_each(
        "agent task service processor",
        "give a function to map, flat_map or peek of stream(topic)",
    ),
    **_each("table Table ktable global_table GlobalTable SetTable set_table", _TABLE),
    **_each("timer crontab schedule", _TIMER),
    **_each("main start execute run_forever", "use run()"),
    **_each("close shutdown terminate", "use stop()"),
    **_each("build graph", "use topology()"),
    **_each("describe", "use topology().describe()"),
    **_each(
        "send produce get_producer get_consumer producer consumer",
        "kstash is no Kafka client: use confluent_kafka, or `kstash send`",
    ),
    **_each("page command on_start", "put it into the program, before or after run()"),
    **_each("to sink output", "use to(topic) of a stream"),
    **_each("settings set_config conf", "use configure(name=value), or the keywords of App"),
}
"""By the method of an application that was tried."""


STATE_VERBS: set[str] = set()
"""What a `KeyedStream` has and a `Stream` has not; filled below that class."""


_FOLD_FIRST = (
    "windows have no results before a fold: call count, sum, aggregate, collect or another fold of "
    "them first, and this on what it returns"
)
_BEFORE = "call it before window(...): windows part records, and only folds make something of them"
_AFTER = (
    "collect the values of each window, window(...).collect(name), or aggregate them, and go on "
    "with the result: state after inner_key() is kept for each key over all windows"
)
WINDOW_WORDS: Mapping[str, str] = {
    **STREAM_WORDS,
    **_each("to late side inner_key map_records flat_map_records", _FOLD_FIRST),
    **_each(
        "map map_values flat_map flat_map_values filter filter_not peek records merge split key_by "
        "repartition dedup throttle",
        _BEFORE,
    ),
    **_each("process with_state top distinct", _AFTER),
    **_each(
        "final suppress current emit_on_close",
        "one result for each window is sent by window(windows, emit='final')",
    ),
    "window": "it is windowed already: call a fold, such as count(name)",
}
"""By the method of a windowed stream that was tried."""


def no_key(verb: str, reason: str | None, location: str) -> UnknownWordError:
    """The error for state where there is no key to keep it by."""
    return UnknownWordError(
        f"{verb} keeps state per key, and the stream has none: {reason}. Or put key_by() before it",
        location,
    )


def refuse_columns(_stream: object, *_: object) -> NoReturn:
    """Stands for `stream["column"]` and its assignment."""
    raise TopologyError(
        "a Stream has no columns: take what is wanted of each value by map_values(lambda value: "
        "value[...]), or keep some by filter(lambda value: ...)",
        user_location(),
    )


def refuse_loops(_stream: object) -> NoReturn:
    """Stands for `for value in stream`, also asynchronous."""
    raise TopologyError(
        "a Stream cannot be looped over, since nothing runs before run(): give a function of one "
        "value to map_values, flat_map_values, filter or peek",
        user_location(),
    )


def missing(owner: object, name: str, words: Mapping[str, str], location: str) -> AttributeError:
    """The error for an attribute that is not there: known words say what to use."""
    kind = type(owner).__name__
    if name in words:
        error: AttributeError = UnknownWordError(f"{kind} has no {name!r}: {words[name]}", location)
    else:
        error = AttributeError(f"{kind!r} object has no attribute {name!r}")
    return error  # Python adds the nearest name itself
