"""What the runtime needs of Kafka, as Protocols.

The adapters of `kstash.kafka` and the in-memory Kafka of `kstash.testing.kafka` implement these;
one contract runs over both (`tests/integration/test_ports_contract.py`). The runtime knows nothing
else of Kafka. Rules that hold for every port:

- All callbacks are served on the caller's thread, inside a `poll` of the port that took them, never
  from another thread.
- No call blocks longer than its stated deadline; nothing is retried for ever without a log line.
- Offsets are ints, partitions are `(topic, partition)` tuples: these are hot paths.
"""

from kstash.ports.kafka.admin import Admin, NewTopic, OffsetsAnswer, TopicInfo
from kstash.ports.kafka.cluster import Cluster
from kstash.ports.kafka.consumer import Consumer
from kstash.ports.kafka.membership import Census, Membership, OnGroups
from kstash.ports.kafka.producer import (
    DeliveredMessage,
    OnDelivery,
    OnDone,
    Producer,
    SinkProducer,
)
from kstash.ports.kafka.record import LOG_APPEND_TIME, Headers, Message, Partition

__all__ = [
    "LOG_APPEND_TIME",
    "Admin",
    "Census",
    "Cluster",
    "Consumer",
    "DeliveredMessage",
    "Headers",
    "Membership",
    "Message",
    "NewTopic",
    "OffsetsAnswer",
    "OnDelivery",
    "OnDone",
    "OnGroups",
    "Partition",
    "Producer",
    "SinkProducer",
    "TopicInfo",
]
