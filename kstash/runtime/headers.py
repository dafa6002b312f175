"""What the headers of a consumed record say: who wrote it, and what is the user's."""

from __future__ import annotations

from kstash.core.names import may_be_internal_of
from kstash.core.wire import (
    HEADER_PREFIX,
    IDENTITY_HEADER,
    MARKER_HEADER,
    Identity,
    Marker,
    application_tag,
    decode_identity,
    decode_marker,
)
from kstash.errors import RecordUnreadableError, TopicSharedError, WireCorruptError
from kstash.ports.kafka import Headers, Message
from kstash.runtime.places import located


def kstash_headers(message: Message) -> tuple[Identity | None, Marker | None]:
    """Decode what a record's headers say of itself; its chunk is for recovery only.

    Raises:
        WireCorruptError: naming topic, partition and offset.
    """
    try:
        return headers_of(message)
    except WireCorruptError as error:
        raise located(error, message) from error


def headers_of(message: Message) -> tuple[Identity | None, Marker | None]:
    """The same of a record of an internal topic, for who adds the place to an error."""
    identity: Identity | None = None
    marker: Marker | None = None
    for name, value in message.headers() or ():
        if name == IDENTITY_HEADER:
            identity = decode_identity(value or b"")
        elif name == MARKER_HEADER:
            marker = decode_marker(value or b"")
    return identity, marker


def sink_identity(message: Message) -> Identity | None:
    """Who wrote a record of an immediate sink; None: not kstash.

    Raises:
        WireCorruptError: without the place.
    """
    for name, value in message.headers() or ():
        if name == IDENTITY_HEADER:
            identity = decode_identity(value or b"")
            if identity.count != 1:
                raise WireCorruptError(f"identity of {identity.count} records on a sink's record")
            return identity
    return None


def readable_headers(message: Message) -> Headers:
    """Headers of a record; none where they cannot be read.

    A scan takes such a record for nobody's; whoever takes it as an input raises the error.
    """
    try:
        return message.headers() or []
    except RecordUnreadableError:
        return []


def user_headers(headers: Headers | None) -> Headers | None:
    """Headers without kstash's own, or None when nothing is left."""
    if not headers:
        return None
    kept = [header for header in headers if not header[0].startswith(HEADER_PREFIX)]
    return kept or None


def check_owner(
    message: Message, writer: Identity | Marker | None, application: int | None
) -> None:
    """Refuse what another application wrote into an internal topic.

    Args:
        message: the record.
        writer: what its headers say of it.
        application: tag of the one that may write there; None: anybody.

    Raises:
        TopicSharedError: naming topic, partition and offset.
    """
    if writer is None or application is None or writer.application == application:
        return
    topic, tag = message.topic(), writer.application
    known = (id_ for id_ in may_be_internal_of(topic) if application_tag(id_) == tag)
    raise located(TopicSharedError(topic, next(known, f"{tag:016x}")), message)
