"""What a `TestDriver` sends, as its producer would write it."""

from __future__ import annotations

from typing import Any, NoReturn

from kstash.errors import ConfigError, SerdeError
from kstash.escape import short_repr
from kstash.operators.columns import serialize_column
from kstash.serdes import Serde, json
from kstash.topology.model import Topology


def input_serdes(topology: Topology, topic: str) -> tuple[Serde[Any], Serde[Any]]:
    """Of an input topic: serdes of key and value.

    Raises:
        ConfigError: the application has no such input topic.
    """
    for stage in topology.stages:
        for entry in stage.inputs:
            if entry.topic == topic and entry.value is not None and not entry.internal:
                return entry.key, entry.value
    raise ConfigError(
        f"no input topic {topic!r}; the application reads {list(topology.input_topics)}"
    )


def encoded_item(topic: str, field: str, serde: Serde[Any], item: Any) -> bytes | None:
    """A key or a value of an input as its producer would send it."""

    def refuse(error: SerdeError) -> NoReturn:
        raise error.at(topic)

    operator = f"send({field}={short_repr(item)})"
    if serde == json and isinstance(item, bytes | bytearray | memoryview):
        cause = TypeError("json makes base64 text of bytes: send_raw() sends bytes as they are")
        refuse(
            SerdeError(
                operator=operator,
                serde=serde.name,
                action="serialize",
                field=field,
                record_index=0,
                cause=cause,
            )
        )
    (data,), _ = serialize_column(serde, [item], operator=operator, field=field, refuse=refuse)
    encoded: bytes | None = data
    return encoded
