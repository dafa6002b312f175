"""Where input partitions end, for those who read them: what can be read there now."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.ports.kafka import Admin, OffsetsAnswer, Partition

QUESTION_S_MAX = 60.0
"""A question that waits for longer is given up, and asked again: its client may have lost it."""


def ask_ends(admin: Admin, inputs: Mapping[Partition, bool]) -> list[OffsetsAnswer]:
    """Ask for the ends of inputs, without waiting.

    Args:
        admin: is asked.
        inputs: whether each is read uncommitted: to its end, and not to its last stable offset.

    Returns:
        The answers to come, one or two; together they have all inputs.
    """
    answers = []
    if committed := [
        partition for partition, is_uncommitted in inputs.items() if not is_uncommitted
    ]:
        answers.append(admin.ask_stable_ends(committed))
    if uncommitted := [partition for partition, is_uncommitted in inputs.items() if is_uncommitted]:
        answers.append(admin.ask_end_offsets(uncommitted))
    return answers
