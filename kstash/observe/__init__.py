"""What a running worker shows: metrics, health, a status page and logs.

The only importer of prometheus_client. `table` declares every metric.
"""

from kstash.observe.logs import configure_logs
from kstash.observe.metrics import PrometheusMetrics
from kstash.observe.names import worker_name
from kstash.observe.observer import Observer, endpoint_of

__all__ = ["Observer", "PrometheusMetrics", "configure_logs", "endpoint_of", "worker_name"]
