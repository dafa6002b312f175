"""`kstash send`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from kstash.cli.options import Connection, connected
from kstash.core.partitioner import Partitioner


@connected
def send(
    connection: Connection,
    topic: Annotated[str, typer.Argument(help="Topic to send to.", show_default=False)],
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--value", "-v", help="A value to send; repeat it for several. [default: stdin's lines]"
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="One key for all values.", show_default=False)
    ] = None,
    key_separator: Annotated[
        str | None,
        typer.Option(
            help="Each line or value is KEY<separator>VALUE, cut at the first separator.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Send values, or the lines of standard input, to a topic.

    A key decides the partition as in kstash and in Java's clients; values without a key go to the
    partitions in turn. The command ends when Kafka has acknowledged all of them.
    """
    if key is not None and key_separator is not None:
        raise typer.BadParameter("give --key or --key-separator, not both")
    if key_separator == "":
        raise typer.BadParameter("--key-separator must not be empty")
    lines: Iterable[bytes] = [argument_bytes(v) for v in values] if values else stdin_lines()
    count = 0
    with connection.kafka() as kafka:
        partitioner = Partitioner(kafka.admin.partition_count(topic))
        try:
            for record_key, value in keyed(lines, key, key_separator):
                if record_key is None:
                    partition = count % partitioner.partition_count
                else:
                    partition = partitioner[record_key]
                kafka.send(topic, partition, record_key, value)
                count += 1
        finally:  # what stands before a bad line is sent: the error names the line
            kafka.flush()
    print(f"sent {count} record{'' if count == 1 else 's'} to {topic}", file=sys.stderr)


def argument_bytes(text: str) -> bytes:
    """The bytes that an argument was given as: Python decodes what is no UTF-8 to surrogates."""
    return text.encode("utf-8", "surrogateescape")


def stdin_lines() -> Iterator[bytes]:
    """Lines of standard input without their line ends."""
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n")


def keyed(
    lines: Iterable[bytes], key: str | None, separator: str | None
) -> Iterator[tuple[bytes | None, bytes]]:
    """Keys and values of lines.

    Raises:
        typer.BadParameter: a line without the separator; names the line.
    """
    if separator is None:
        fixed = None if key is None else argument_bytes(key)
        for line in lines:
            yield fixed, line
        return
    mark = argument_bytes(separator)
    for number, line in enumerate(lines, 1):
        head, found, tail = line.partition(mark)
        if not found:
            raise typer.BadParameter(
                f"line {number} has no separator {separator!r}: {line.decode(errors='replace')!r}; "
                f"the {number - 1} before it are sent"
            )
        yield head, tail
