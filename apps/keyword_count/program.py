"""Two streams of search queries, one keyword: how many times has it been queried?"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import kstash

KEYWORD = "UCB"


def build(
    application_id: str = "keyword-count",
    *,
    input_topics: tuple[str, str] = ("queries-1", "queries-2"),
    output_topic: str = "keyword-counts",
    keyword: str = KEYWORD,
    **settings: Any,
) -> kstash.App:
    """Declare the keyword count; nothing runs yet.

    Args:
        application_id: names the consumer group and the internal topics.
        input_topics: JSON objects `{"user_id": …, "keyword": …}`; keys are not looked at.
        output_topic: one record for each query of the keyword: the keyword as key, how often it
            has been queried so far as value, in ASCII decimals.
        keyword: what to count; upper and lower case differ.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    first, second = (app.stream(topic, value=kstash.json) for topic in input_topics)
    select_1 = first.map_values(itemgetter("keyword"))
    select_2 = second.map_values(itemgetter("keyword"))
    (
        select_1.merge(select_2)
        .filter(lambda queried: queried == keyword)
        .key_by(lambda queried: queried, key=kstash.text)
        .count("queries")
        .to(output_topic, key=kstash.text, value=kstash.int_text)
    )
    return app
