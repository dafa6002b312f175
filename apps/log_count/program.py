"""Lines of a server log: how many are attacks?"""

from __future__ import annotations

from typing import Any

import kstash

XSS = "%3C%73%63%72%69%70%74%3E"  # "<script>", URL-encoded
SQLI = "bobby_tables"
KEY = "attacks"


def build(
    application_id: str = "log-count",
    *,
    input_topic: str = "server-log",
    output_topic: str = "attack-counts",
    **settings: Any,
) -> kstash.App:
    """Declare the log count; nothing runs yet.

    Args:
        application_id: names the consumer group and the internal topics.
        input_topic: lines of UTF-8 text; keys are not looked at.
        output_topic: one record for each attack, all with the key `attacks`: the number of attacks
            so far, in ASCII decimals. A line that is both kinds of attack counts twice.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    lines = app.stream(input_topic, value=kstash.text)
    xss = lines.filter(lambda line: XSS in line)
    sqli = lines.filter(lambda line: SQLI in line)
    (
        xss.merge(sqli)
        .key_by(lambda _: KEY, key=kstash.text)
        .count("attacks")
        .to(output_topic, key=kstash.text, value=kstash.int_text)
    )
    return app
