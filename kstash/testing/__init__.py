"""What kstash ships for tests of programs that are written with it."""

from kstash.testing.clock import ManualClock
from kstash.testing.driver import TestDriver
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster
from kstash.testing.outputs import OutputRecord

__all__ = ["ManualClock", "MemoryCluster", "MemoryKafka", "OutputRecord", "TestDriver"]
