"""kstash: exactly-once stream processing on Apache Kafka, at the latency of at-least-once.

Everything public is here, in `kstash.errors`, in `kstash.folds` (for `aggregate_all`), in
`kstash.readers` (for programs that read what kstash wrote), in `kstash.broker` (a Kafka for
development) and in `kstash.testing`.
"""

from importlib import metadata

from kstash import errors, folds
from kstash.app import App
from kstash.errors import (
    ClusterError,
    ConfigError,
    KstashError,
    ProgramError,
    ProtocolError,
    StateError,
)
from kstash.ports.state import FinalState
from kstash.serdes import (
    Serde,
    float_text,
    int_text,
    json,
    msgpack,
    number_text,
    raw,
    text,
)
from kstash.settings.config import Config
from kstash.surface.keyed import KeyedStream
from kstash.surface.streams import Stream
from kstash.surface.window_kinds import (
    daily,
    hopping,
    hopping_count,
    session,
    sliding,
    tumbling,
    tumbling_count,
    windowed,
)
from kstash.surface.windows import WindowedStream, WindowResults
from kstash.topology.keyed_state import List, Map, Value
from kstash.topology.model import Topology
from kstash.topology.nodes import Delivery
from kstash.topology.processor import Context, FiredTimer, Processor
from kstash.topology.record import DELETE, Deletion, Late, Record, RecordOrigin
from kstash.topology.statistics import Statistics, statistics_json
from kstash.topology.window_nodes import Windows
from kstash.topology.windowed import Windowed

__version__ = metadata.version("kstash")

__all__ = [
    "DELETE",
    "App",
    "ClusterError",
    "Config",
    "ConfigError",
    "Context",
    "Deletion",
    "Delivery",
    "FinalState",
    "FiredTimer",
    "KeyedStream",
    "KstashError",
    "Late",
    "List",
    "Map",
    "Processor",
    "ProgramError",
    "ProtocolError",
    "Record",
    "RecordOrigin",
    "Serde",
    "StateError",
    "Statistics",
    "Stream",
    "Topology",
    "Value",
    "WindowResults",
    "Windowed",
    "WindowedStream",
    "Windows",
    "__version__",
    "daily",
    "errors",
    "float_text",
    "folds",
    "hopping",
    "hopping_count",
    "int_text",
    "json",
    "msgpack",
    "number_text",
    "raw",
    "session",
    "sliding",
    "statistics_json",
    "text",
    "tumbling",
    "tumbling_count",
    "windowed",
]
