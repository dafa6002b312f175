"""From what pydantic says of a wrong setting to one sentence with the place where it was given."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from kstash.errors import ConfigError
from kstash.escape import short_repr
from kstash.settings import hosts
from kstash.settings.credentials import is_secret, masked_url
from kstash.settings.sources import Layer, find


def config_error(error: ValidationError, layers: Sequence[Layer]) -> ConfigError:
    """The first thing that is wrong; `layers`: what each source gave."""
    first = error.errors(include_url=False, include_context=False)[0]
    setting = str(first["loc"][0]) if first["loc"] else None
    message = first["msg"].removeprefix("Value error, ")
    if setting == "http_token" and first["type"] == "string_pattern_mismatch":
        message = hosts.TOKEN_TEXT
    if setting is None:
        return ConfigError(message)
    found, given, name = first["input"], "", setting
    if setting == "kafka":
        place = f"{setting}[{first['loc'][1]!r}]" if len(first["loc"]) > 1 else setting
        name = f"kafka.{first['loc'][1]}" if len(first["loc"]) > 1 else setting
    else:
        place = setting
        shown = masked_url(found) if isinstance(found, str) else found
        is_shown = first["type"] != "missing" and not is_secret(setting)
        given = f", not {short_repr(shown)}" if is_shown else ""
    source = find(layers, name, None)
    where = f" ({source.place})" if source.place else ""
    return ConfigError(f"setting {place}: {message[0].lower()}{message[1:]}{given}{where}", setting)
