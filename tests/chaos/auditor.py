"""Runs an application to the ends of its inputs, on an empty disk, and writes down its state.

    python -m tests.chaos.auditor '{"name": "word_count", "application_id": …}'

What it starts from is what the workers left in Kafka: so its state shows what they had.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import kstash
from kstash.apps import keyword_count, word_count
from tests.chaos import rolling_hash_app


def build(request: dict[str, Any]) -> kstash.App:
    """The application that was asked for."""
    names = {"output_topic": request["output"], **request["settings"]}
    application_id, inputs = request["application_id"], tuple(request["inputs"])
    app: kstash.App
    match request["name"]:
        case "word_count":
            app = word_count.build(application_id, input_topic=inputs[0], **names)
        case "keyword_count":
            app = keyword_count.build(application_id, input_topics=inputs, **names)
        case "both_deliveries":
            names["transactional_output"] = request["transactional_output"]
            app = rolling_hash_app.build(application_id, input_topics=inputs, **names)
        case other:
            raise AssertionError(f"no such application: {other}")
    return app


def main(request: dict[str, Any]) -> None:
    """Run to the end, then write the value of each key asked for as JSON."""

    def write(state: kstash.FinalState) -> None:
        store = request["store"]
        values = {key: state.get(store, key) for key in request["keys"]}
        Path(request["report"]).write_text(json.dumps(values))

    build(request).run(until="end", on_end=write)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
