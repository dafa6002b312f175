"""The first log line of a worker, with versions and settings; and warnings of test settings."""

from __future__ import annotations

import platform
from importlib import metadata

import structlog

from kstash import failpoints
from kstash.kafka import client_version
from kstash.settings.config import Config

log = structlog.get_logger("kstash")


def build_info() -> dict[str, str]:
    """Versions of what runs here, as the metric `build_info` has them."""
    return {
        "version": metadata.version("kstash"),
        "python": platform.python_version(),
        "client": client_version(),
    }


def greet(config: Config, *, workers: int | None = None) -> None:
    """Log which application starts, with which settings, and on which versions.

    Args:
        config: its settings.
        workers: number of a supervisor's workers; None: this is a worker.
    """
    of_worker = {} if config.instance_id is None else {"instance_id": config.instance_id}
    of_supervisor = {} if workers is None else {"workers": workers}
    log.info(
        "starting",
        application=config.application_id,
        kstash=metadata.version("kstash"),
        guarantee=config.guarantee,
        brokers=config.bootstrap_servers,
        state_dir=config.state_dir,
        **of_worker,
        **of_supervisor,
        python=platform.python_version(),
        client=client_version(),
    )
    if (point := failpoints.armed()) is not None:
        log.warning(
            "this process ends itself at a fail point, which is for tests only",
            point=point,
            variable=failpoints.VARIABLE,
        )
    if config.lineage_ack_delay_ms:
        log.warning(
            "lineage is written late on purpose, which is for tests only",
            setting="lineage_ack_delay_ms",
            milliseconds=config.lineage_ack_delay_ms,
        )
