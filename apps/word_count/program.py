"""Sentences become words, words become running counts."""

from __future__ import annotations

from typing import Any

import kstash


def build(
    application_id: str = "word-count",
    *,
    input_topic: str = "sentences",
    output_topic: str = "word-counts",
    **settings: Any,
) -> kstash.App:
    """Declare the word count; nothing runs yet.

    Args:
        application_id: names the consumer group and the internal topics.
        input_topic: UTF-8 text, split at white space; keys are not looked at.
        output_topic: one record for each word read: the word as key, how often it has been read
            so far as value, in ASCII decimals.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    (
        app.stream(input_topic, value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to(output_topic, key=kstash.text, value=kstash.int_text)
    )
    return app
