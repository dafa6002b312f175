"""Headers that a user's function makes."""

from __future__ import annotations

from kstash.core.wire import HEADER_PREFIX
from kstash.escape import short_repr
from kstash.ports.kafka import Headers


def checked_headers(what: str, headers: object) -> Headers:
    """Headers as records have them: another list, which the user's code does not change.

    Args:
        what: takes them, for errors.
        headers: pairs of a text and bytes, or None in place of these.

    Raises:
        TypeError: they are none.
        ValueError: a name that no record of the user's may have.
    """
    made: Headers = []
    for header in headers if isinstance(headers, list | tuple) else (headers,):
        match header:
            case (str(name), bytes() | None as content):
                name.encode()
                if name.startswith(HEADER_PREFIX):
                    raise ValueError(f"headers that begin with {HEADER_PREFIX} are kstash's own")
                made.append((name, content))
            case _:
                raise TypeError(
                    f"{what} a list of pairs of a text and bytes, such as "
                    f'[("trace", b"1")], not {short_repr(headers)}'
                )
    return made
