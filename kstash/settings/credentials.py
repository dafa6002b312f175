"""Secrets among the settings: how they come in, and how they stay out of what is shown.

Whatever shows settings (a dump, an error, a log line) asks here. What a command line says can be
read by everybody on the machine, in each worker of a supervisor once more; so a secret comes by the
environment, or from a file that the environment names.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from kstash.errors import ConfigError

CLIENT_PREFIX = "KSTASH_KAFKA__"
"""Of the variables that give a single setting of the Kafka client."""

FILE_SUFFIX = "_FILE"
FILE_BYTES_MAX = 1024 * 1024
"""Far above any password, key or chain of certificates."""

MASK = "***"

_SECRET = re.compile(
    r"password|passphrase|secret|jaas|(^|[._])token$|key\.pem$|^ssl_key$|oauthbearer\.config$"
)
"""What librdkafka keeps out of its own logs, but for `sasl.username` and `ssl.ca.pem`, which are
known to others in any case; and words that mark a secret in releases to come."""

_WITH_UNDERSCORE = {"log.level": "log_level"}
"""Settings of the client that are not written with dots alone, as the rule would have them."""

_ENDS_IN_FILE = frozenset(
    {
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.jwt.template.file",
        "sasl.oauthbearer.assertion.private.key.file",
    }
)
"""Settings of the client that take a path themselves."""

_LACKS_UNDERSCORE = re.compile(r"KSTASH_KAFKA_((?:SASL|SSL|SECURITY)_\w+)\Z")


def is_secret(name: str) -> bool:
    """Whether the value of a client setting is to be kept from others."""
    return _SECRET.search(name) is not None


def variable_of(name: str) -> str:
    """The variable of the environment that gives a setting of the Kafka client."""
    return CLIENT_PREFIX + name.upper().replace(".", "_")


# -- what is shown -------------------------------------------------------------------------------


def masked_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Client settings as they may be shown: secrets, keys in URLs and functions are masked."""
    return {name: _masked(name, value) for name, value in settings.items()}


def _masked(name: str, value: object) -> object:
    if is_secret(name):
        return MASK
    if isinstance(value, str):
        return masked_url(value)
    return value if isinstance(value, int | float | None) else f"<{type(value).__name__}>"


def masked_url(url: str) -> str:
    """A URL without user, password and query; any other text as it is."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        return url
    rest, question, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    if "@" in rest and ("@" in host or ":" in host):
        # The last one: a key that nobody has quoted may hold a slash, or another @.
        rest = f"{MASK}@{rest.rpartition('@')[2]}"
    elif ":" in host and not host.startswith("[") and not host.rpartition(":")[2].isdecimal():
        rest = f"{MASK}{slash}{path}"
    return f"{scheme}://{rest}{question}{MASK if question else ''}"


def refuse_key(url: str) -> None:
    """Refuse the URL of an object store that has more in it than a bucket and a path.

    Raises:
        ValueError: it has; nobody would read a key from there.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("s3", "gs", "az") and (
        re.search("[@:]", rest.partition("/")[0]) or re.search("[?#]", rest)
    ):
        raise ValueError(
            "only bucket and path are read from this URL, no key and no query: credentials "
            "come from the environment (AWS_ACCESS_KEY_ID, AZURE_STORAGE_SAS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS …)"
        )


# -- where secrets come from ---------------------------------------------------------------------


def client_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Values of the client settings that variables give, by their names."""
    return {name: value for name, (_, value) in client_variables(environment).items()}


def client_variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Client settings that variables give: `KSTASH_KAFKA__SASL_PASSWORD` is `sasl.password`.

    With `_FILE` appended a variable names a file whose content is the value, without a newline at
    its end. Files are read at each call: each worker and each restart reads them anew. Empty
    variables count as none, like those of all settings.

    Returns:
        The variable and the value of each, by its name.

    Raises:
        ConfigError: a file cannot be read or holds no text, a setting is given twice, or cannot be
            given so. No message quotes a value, nor a path that may be the value itself.
    """
    found: dict[str, tuple[str, str]] = {}
    for variable, text in environment.items():
        if lacking := _LACKS_UNDERSCORE.match(variable):
            raise ConfigError(
                f"unknown variable {variable}: a setting of the Kafka client has two underscores "
                f"in front of it, {CLIENT_PREFIX}{lacking[1]}",
                "kafka",
            )
        if not variable.startswith(CLIENT_PREFIX) or not text:
            continue
        name = _name(variable.removeprefix(CLIENT_PREFIX))
        if is_file := name.endswith(".file") and name not in _ENDS_IN_FILE:
            name = _name(name.removesuffix(".file"))
        if not name:
            raise ConfigError(f"{variable} names no setting of the Kafka client", "kafka")
        if name.endswith((".cb", "_cb")):
            raise ConfigError(
                f"{variable}: a function is given in the program, by kafka={{...}}", "kafka"
            )
        if name in found:
            raise ConfigError(
                f"{found[name][0]} and {variable} both give {name!r}: unset one of them", "kafka"
            )
        found[name] = variable, content(variable, text) if is_file else text
    return found


def _name(word: str) -> str:
    name = word.lower().replace("_", ".")
    return _WITH_UNDERSCORE.get(name, name)


def content(variable: str, path: str) -> str:
    """What is in the file that a variable names, without a newline at its end.

    Raises:
        ConfigError: it cannot be read, is empty or no text; quotes neither path nor content.
    """
    text, problem = read_text(path)
    value = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not problem and "\0" in value:
        problem = "the file holds a NUL character, which the Kafka client cannot take"
    if not problem and not value:
        problem = "the file is empty"
    if problem.startswith("the file cannot be read"):
        problem += (
            f"; it takes a path, a value itself goes into {variable.removesuffix(FILE_SUFFIX)}"
        )
    if problem:
        raise ConfigError(f"{variable}: {problem}", "kafka")
    return value


def read_text(path: str) -> tuple[str, str]:
    """The text of a regular file of at most 1 MiB, and what is wrong with it; one is empty.

    Nothing is raised: what is being handled then would hold the content.
    """
    data, problem = b"", ""
    try:
        # Not blocking: a pipe that nobody writes to would be waited for without end.
        with open(path, "rb", opener=_opened) as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode):
                data = file.read(min(max(found.st_size, 65_536), FILE_BYTES_MAX) + 1)
            else:
                problem = "what it names is no regular file, and each restart has to read it again"
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
    if len(data) > FILE_BYTES_MAX:
        return "", f"the file has more than {FILE_BYTES_MAX} bytes"
    try:
        return data.decode(), problem
    except UnicodeDecodeError:
        return "", "the file is no text in UTF-8"


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
