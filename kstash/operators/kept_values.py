"""Values of records that are kept as long as a window to come can hold them."""

from __future__ import annotations

from typing import Any

from kstash.errors import SerdeError
from kstash.serdes import Serde


class KeptValues:
    """What is kept of values: their bytes, so that a window holds the same after a restart.

    Args:
        operator: for errors.
        serde: of the values; None: nobody reads them.
    """

    def __init__(self, operator: str, serde: Serde[Any] | None) -> None:
        self._operator = operator
        self._serde = serde

    def encode(self, value: Any, index: int) -> bytes:
        """The bytes of the value of a record, whose index errors name.

        Raises:
            SerdeError: the serde cannot keep it.
        """
        serde = self._serde
        if serde is None:
            return b""
        try:
            data = serde.serialize(value)
            if not isinstance(data, bytes):
                raise TypeError(f"the serializer returned {type(data).__name__}, not bytes")
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise SerdeError(
                operator=self._operator,
                serde=serde.name,
                action="serialize",
                field="value",
                record_index=index,
                cause=cause,
            ) from cause
        return data

    def decode(self, data: bytes) -> Any:
        """A value of these bytes, an object of its own."""
        return None if self._serde is None else self._serde.deserialize(data)
