"""Records with a header name that is no UTF-8, which the client cannot hand out.

Asked for the headers of such a record, the client (confluent-kafka 2.16) raises a bare
`SystemError` without a place; asked again, it gives a list with a hole in it that crashes the
process. So the headers of each record are asked for once, here, and a record without readable ones
is replaced by one that raises an error with its place, whenever it is asked. (A name with a NUL in
it ends there: the client shows no more of it, and this cannot be seen.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import methodcaller
from typing import Any

from kstash.errors import RecordUnreadableError

_headers_of = methodcaller("headers")


class HeaderlessMessage:
    """A consumed record whose headers cannot be read: `kstash.ports.kafka.Message`."""

    __slots__ = ("_message",)

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def headers(self) -> Any:
        """Raise, each time.

        Raises:
            RecordUnreadableError: names topic, partition and offset, and how to pass it over.
        """
        place = self._message.topic(), self._message.partition(), self._message.offset()
        error = RecordUnreadableError("the name of a header is no UTF-8")
        error.skip = "/".join(map(str, place))
        raise error.at(*place)


def with_headers_read(messages: Sequence[Any]) -> Sequence[Any]:
    """The same records; those whose headers cannot be read are replaced."""
    waiting = iter(messages)
    try:
        deque(map(_headers_of, waiting), 0)
    except SystemError:
        after = list(waiting)
        bad = len(messages) - len(after) - 1
        return [*messages[:bad], HeaderlessMessage(messages[bad]), *with_headers_read(after)]
    return messages
