"""Where settings come from: layers, of which the upper ones count.

From the top: the command line, the environment, the settings file, the program. The only reader of
the environment and of the file. Secrets are masked by who shows them.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kstash.errors import ConfigError
from kstash.settings.credentials import (
    FILE_SUFFIX,
    client_variables,
    content,
    is_secret,
    read_text,
    variable_of,
)
from kstash.settings.misspellings import refuse_misspelt_variables, refuse_unknown

VARIABLE_PREFIX = "KSTASH_"

FILE_VARIABLE = "KSTASH_CONFIG"
"""Names the settings file; the option `--config` sets it."""

FILE_NAME = "kstash.toml"
PROJECT_FILE = "pyproject.toml"
TABLE = "tool.kstash"

CREDENTIALS = ("sasl.username", "sasl.password")
"""Settings of the Kafka client that may change while it runs, in the order in which it takes them.
"""

_HAS_TABLE = re.compile(r"""^\s*\[?\s*["']?tool["']?\s*(\.\s*["']?kstash|\]|=)""", re.MULTILINE)
"""Of a text that may have the table: parsing a large file takes some milliseconds."""

Origin = Literal["supervisor", "command line", "environment", "file", "code", "default"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives.

    Attributes:
        origin: which one it is.
        values: settings by name as they were given; `kafka` holds several.
        places: what gave a setting, where that is not plain: a variable, a file. A setting of the
            Kafka client has the name `kafka.<name>`.
        files: absolute paths of those that gave `CREDENTIALS`, by the client's name for them.
    """

    origin: Origin
    values: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sourced:
    """One setting, and where it comes from.

    Attributes:
        setting: its name; of the Kafka client's settings `kafka.<name>`.
        value: as it may be shown.
        origin: which source gave it.
        place: the variable or the file; empty for the others.
    """

    setting: str
    value: Any
    origin: Origin
    place: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """What counts of all layers, the first one on top; settings of the Kafka client one by one."""
    found: dict[str, Any] = {}
    for layer in reversed(layers):
        for name, value in layer.values.items():
            below = found.get(name)
            if name == "kafka" and isinstance(value, Mapping) and isinstance(below, Mapping):
                found[name] = {**below, **value}
            else:
                found[name] = value
    return found


def find(layers: Sequence[Layer], setting: str, value: Any) -> Sourced:
    """The uppermost layer that gives a setting, or one of the Kafka client (`kafka.<name>`)."""
    group, dot, name = setting.partition(".")
    for layer in layers:
        given = layer.values.get(group) if dot else layer.values
        if isinstance(given, Mapping) and (name if dot else group) in given:
            return Sourced(setting, value, layer.origin, layer.places.get(setting, ""))
    return Sourced(setting, value, "default", "")


def credential_files(layers: Sequence[Layer]) -> dict[str, tuple[str, str]]:
    """The variable and the file that gave each of `CREDENTIALS`, of those that came from files."""
    found: dict[str, tuple[str, str]] = {}
    for name in CREDENTIALS:
        upper = next((x for x in layers if name in (x.values.get("kafka") or {})), None)
        if upper is not None and name in upper.files:
            found[name] = upper.places[f"kafka.{name}"], upper.files[name]
    return found


# -- the environment -----------------------------------------------------------------------------


def read_environment(environment: Mapping[str, str], known: Iterable[str]) -> Layer:
    """What variables give: `KSTASH_<SETTING>`, `KSTASH_KAFKA__<NAME>`. Empty ones count as none.

    A secret may be in a file that `KSTASH_<SETTING>_FILE` names.

    Raises:
        ConfigError: a variable looks like a setting and is none, its file cannot be read, or a
            setting is given twice.
    """
    names = [*known]
    of_files = [name + FILE_SUFFIX.lower() for name in names if is_secret(name)]
    refuse_misspelt_variables(VARIABLE_PREFIX, environment, [*names, *of_files])
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    files: dict[str, str] = {}
    for name in names:
        variable = VARIABLE_PREFIX + name.upper()
        text = environment.get(variable, "")
        path = environment.get(variable + FILE_SUFFIX, "") if is_secret(name) else ""
        if text and path:
            raise ConfigError(
                f"{variable} and {variable}{FILE_SUFFIX} both give {name!r}: unset one of them",
                name,
            )
        if path:
            variable += FILE_SUFFIX
            text = content(variable, path)
        if text:
            values[name], places[name] = text, variable
    if "kafka" in values:
        values["kafka"] = _json(values["kafka"])
    if found := client_variables(environment):
        together = values.get("kafka")
        several = together if isinstance(together, Mapping) else {}
        places |= {f"kafka.{name}": f"{VARIABLE_PREFIX}KAFKA" for name in several}
        places |= {f"kafka.{name}": variable for name, (variable, _) in found.items()}
        files = {
            name: str(Path(environment[variable]).absolute())
            for name, (variable, _) in found.items()
            if name in CREDENTIALS and variable.endswith(FILE_SUFFIX)
        }
        single = {name: value for name, (_, value) in found.items()}
        # What is no object stays what it is: the settings refuse it by name.
        values["kafka"] = {**several, **single} if together is None or several else together
    elif isinstance(values.get("kafka"), Mapping):
        places |= {f"kafka.{name}": f"{VARIABLE_PREFIX}KAFKA" for name in values["kafka"]}
    return Layer("environment", values, places, files)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # Here and not above: what is being handled there holds the text.
    raise ConfigError(
        f"{VARIABLE_PREFIX}KAFKA is no JSON: it takes an object of client settings, such as "
        '{"security.protocol": "SSL"}',
        "kafka",
    )


# -- the file ------------------------------------------------------------------------------------


def read_file(environment: Mapping[str, str], known: Iterable[str]) -> Layer:
    """What the settings file gives: the one that `KSTASH_CONFIG` names, or one that is here.

    Here, that is `kstash.toml`, or else `[tool.kstash]` of `pyproject.toml`, in the current folder.

    Raises:
        ConfigError: the file cannot be read or is no TOML, a key is no setting (names file, key and
            the nearest setting), or a secret stands in `pyproject.toml`.
    """
    named = environment.get(FILE_VARIABLE)
    path = Path(named) if named else next((p for p in _candidates() if p.is_file()), None)
    if path is None:
        return Layer("file", {})
    is_project = path.name == PROJECT_FILE
    text, problem = read_text(str(path))
    if problem and (named or not is_project):
        raise ConfigError(f"the settings of {path} cannot be used: {problem}", "config")
    if is_project and not named and not _HAS_TABLE.search(text):
        return Layer("file", {})  # other programs' matters, and whether they are right, are theirs
    table = _toml(path, text)
    if is_project:
        table = _table_of_project(path, table)
    place = f"{path} [{TABLE}]" if is_project else str(path)
    values: dict[str, Any] = {}
    names = [*known]
    for name, value in table.items():
        try:
            refuse_unknown(name, name, names)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}", name) from None
        values[name] = _flat(value) if name == "kafka" and isinstance(value, dict) else value
    if is_project:
        _refuse_secrets(place, values)
    client = values.get("kafka")
    settings = [*values, *(f"kafka.{name}" for name in client or () if isinstance(client, dict))]
    return Layer("file", values, dict.fromkeys(settings, place))


def _candidates() -> tuple[Path, Path]:
    return Path(FILE_NAME), Path(PROJECT_FILE)


def _toml(path: Path, text: str) -> dict[str, Any]:
    problem = ""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = str(error)  # the place and what is wrong; no value
    except RecursionError:
        problem = "nested too deep"
    # Here and not above: what is being handled there holds the text.
    raise ConfigError(f"{path} is no TOML: {problem}", "config")


def _table_of_project(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    for name in TABLE.split("."):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {TABLE!r} must be a table, [{TABLE}]", "config")
    return table


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of the Kafka client as it names them: TOML reads dots in a bare key as tables."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _refuse_secrets(place: str, values: Mapping[str, Any]) -> None:
    client = values.get("kafka")
    variables = {name: VARIABLE_PREFIX + name.upper() for name in values if is_secret(name)}
    if isinstance(client, dict):
        variables |= {f"kafka.{name}": variable_of(name) for name in client if is_secret(name)}
    for name, variable in variables.items():
        raise ConfigError(
            f"{place}: {name} is a secret, and everybody who has the program has this file: give "
            f"it in the environment as {variable}, or put it into a file and name that by "
            f"{variable}{FILE_SUFFIX}",
            name.partition(".")[0],
        )
