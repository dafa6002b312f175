"""Two versions of one application, for `kstash run tests.integration.shop:first`.

`SHOP` in the environment is `<application id> <input> <sink of counts> <sink of maxima>`.
"""

from __future__ import annotations

import os

import kstash


def first() -> kstash.App:
    """A word count."""
    application_id, source, counts, _ = os.environ["SHOP"].split()
    app = kstash.App(application_id)
    _keyed(app, app.stream(source, value=kstash.text)).count("words").to(
        counts, value=kstash.int_text
    )
    return app


def second() -> kstash.App:
    """With a filter and another store, declared first, after the same edge."""
    application_id, source, counts, maxima = os.environ["SHOP"].split()
    app = kstash.App(application_id)
    keyed = _keyed(app, app.stream(source, value=kstash.text).filter(bool))
    keyed.aggregate("longest", str, max, value=kstash.text).to(maxima, value=kstash.text)
    keyed.count("words").to(counts, value=kstash.int_text)
    return app


def third() -> kstash.App:
    """Without the count."""
    application_id, source, _, maxima = os.environ["SHOP"].split()
    app = kstash.App(application_id)
    keyed = _keyed(app, app.stream(source, value=kstash.text).filter(bool))
    keyed.aggregate("longest", str, max, value=kstash.text).to(maxima, value=kstash.text)
    return app


def _keyed(_: kstash.App, lines: kstash.Stream[bytes | None, str]) -> kstash.KeyedStream[str, str]:
    return lines.flat_map(str.split).key_by(
        lambda word: word, key=kstash.text, value=kstash.text, name="by-word"
    )
