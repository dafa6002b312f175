"""The consumer for recovery and for inputs that are read `read_uncommitted`."""

from __future__ import annotations

from kstash.kafka.consuming import AssignedConsumer


class KafkaScanner(AssignedConsumer):
    """`kstash.ports.kafka.Scanner`: assign only, never a group member."""
