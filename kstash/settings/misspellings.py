"""Names that are no settings: what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from kstash.errors import ConfigError

NEAR = 0.6
"""Least likeness of a name that is suggested: a name that has nothing to do with it misleads."""

OTHER_WORDS = {
    **dict.fromkeys(
        ("broker", "brokers", "broker_address", "bootstrap_server"), "bootstrap_servers"
    ),
    **dict.fromkeys(
        ("id", "app_id", "group_id", "consumer_group", "name"), "application_id: it names the group"
    ),
    **dict.fromkeys(("store", "datadir", "data_dir", "tabledir", "state_folder"), "state_dir"),
    **dict.fromkeys(("processing_guarantee", "exactly_once", "semantics"), "guarantee"),
    **dict.fromkeys(("offset_reset", "consumer_auto_offset_reset"), "auto_offset_reset"),
    **dict.fromkeys(
        ("key_serializer", "value_serializer", "key_serde", "value_serde"),
        "key= and value= of stream() and to()",
    ),
    **dict.fromkeys(("commit_interval", "commit_interval_ms"), "sink_commit_interval_ms"),
    **dict.fromkeys(("num_threads", "concurrency", "processes", "workers"), "run(workers=N)"),
    **dict.fromkeys(("producer_config", "consumer_config", "client", "security"), "kafka={...}"),
    **dict.fromkeys(("web_port", "port", "metrics_port"), "http_port"),
    **dict.fromkeys(("auto_create_topics", "topic_allow_declare"), "create_topics"),
    "idle_timeout": "idle_timeout= of window(), which closes windows where no record comes; or the "
    "setting idle_timeout_ms, after which an input that is silent holds no time back in watermark "
    "mode",
}
"""Settings of other libraries, and what stands in their place."""


def refuse_unknown(name: str, shown: str, known: Iterable[str]) -> None:
    """Refuse a keyword that is no setting.

    Raises:
        ConfigError: names the one that was meant, as far as that can be guessed.
    """
    if name in known:
        return
    nearest = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1, NEAR)
    if name in OTHER_WORDS:
        hint = f"use {OTHER_WORDS[name]}"
    elif "." in name:
        hint = f"a setting of the Kafka client is given by kafka={{{name!r}: ...}}"
    elif nearest:
        hint = f"did you mean {nearest[0]!r}?"
    else:
        hint = "`kstash config show` lists all that there are"
    raise ConfigError(f"unknown setting {shown!r}, {hint}", name)


def refuse_misspelt_variables(
    prefix: str, environment: Iterable[str], known: Collection[str]
) -> None:
    """Refuse a variable that looks like a setting and is none.

    Other programs may share the prefix, so what resembles no setting is left alone.

    Raises:
        ConfigError: names the nearest setting.
    """
    for variable in environment:
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix) or (variable.isupper() and name in known):
            continue
        nearest = [name] if name in known else difflib.get_close_matches(name, known, 1, 0.85)
        if nearest:
            raise ConfigError(
                f"unknown variable {variable}, did you mean {prefix}{nearest[0].upper()}?", name
            )
