"""The fail points of records that are appended to the lineage topic, by their kind."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.record_words import WORDS
from kstash.core.records import LineageRecord

APPENDS: Mapping[type[LineageRecord], str] = {
    kind: f"lineage.{word}.append" for kind, word in WORDS.items()
}
"""Around the append, which only queues the record: it is on its way some time later."""

ACKS: Mapping[type[LineageRecord], str] = {
    kind: f"lineage.{word}.ack" for kind, word in WORDS.items()
}
"""Around what follows from the acknowledgement: the record is in the topic."""
