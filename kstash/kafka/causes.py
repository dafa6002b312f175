"""Why a client gets no answer: known causes, with what mends them and how it words them."""

from __future__ import annotations

import re
from typing import NamedTuple


class Cause(NamedTuple):
    """Why a client gets no answer.

    Attributes:
        what: what is wrong, of the address that stands before it.
        fix: what to do.
        setting: what is to be mended; `bootstrap_servers` or one of `kafka`.
        weight: the heaviest cause is reported: 3 is a refusal, 2 one if it comes again and again.
    """

    what: str
    fix: str
    setting: str
    weight: int


USER = Cause(
    "refuses the user or the password",
    "set sasl.username and sasl.password to what the cluster knows",
    "sasl.password",
    3,
)

TOKEN = Cause(
    "refuses the token", "have oauth_cb return one that the cluster accepts", "oauth_cb", 3
)

NO_SASL = Cause(
    "wants no user: that listener does no SASL",
    "set security.protocol to SSL or PLAINTEXT, or use the port of another listener",
    "security.protocol",
    3,
)

EXPIRED = Cause(
    "has a certificate that is out of date",
    "have it renewed on the broker (or set this machine's clock)",
    "ssl.ca.location",
    3,
)

UNKNOWN_CA = Cause(
    "has a certificate of an authority that is not known here",
    "set ssl.ca.location to the file with the cluster's CA certificate (PEM)",
    "ssl.ca.location",
    3,
)

OTHER_HOST = Cause(
    "has a certificate for another host name",
    "use a name in bootstrap_servers that the certificate has, or have one made for this name",
    "bootstrap_servers",
    3,
)

CERTIFICATE = Cause(
    "has a certificate that does not hold",
    "check ssl.ca.location, and the broker's certificate",
    "ssl.ca.location",
    3,
)

NO_CLIENT_CERTIFICATE = Cause(
    "wants a certificate of the client, signed by an authority that it knows",
    "set ssl.certificate.location and ssl.key.location",
    "ssl.certificate.location",
    3,
)

NO_TLS = Cause(
    "does no TLS",
    "set security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use the port of a TLS listener",
    "security.protocol",
    2,
)

WANTS_TLS = Cause(
    "closes the connection at the first request, as a TLS listener does",
    "set security.protocol to SSL or SASL_SSL, or use the port of another listener (a proxy "
    "without its broker looks the same: then start the broker)",
    "security.protocol",
    2,
)

WANTS_SASL = Cause(
    "closes the connection before an answer, as a listener does that wants a user",
    "set security.protocol to SASL_SSL or SASL_PLAINTEXT, with sasl.mechanism, sasl.username and "
    "sasl.password (a broker that is going down looks the same: then start it)",
    "security.protocol",
    2,
)

UNRESOLVED = Cause(
    "is not known to the name service",
    "correct bootstrap_servers, or the broker's advertised.listeners",
    "bootstrap_servers",
    1,
)

NOBODY_LISTENS = Cause(
    "has nobody listening (connection refused)",
    "start the broker, or correct bootstrap_servers",
    "bootstrap_servers",
    1,
)

NO_ROUTE = Cause(
    "cannot be reached from this machine",
    "correct bootstrap_servers, or the network between",
    "bootstrap_servers",
    1,
)

NO_KAFKA = Cause(
    "is connected, and does not answer as Kafka does",
    "check that bootstrap_servers names a broker, and that it is well",
    "bootstrap_servers",
    1,
)

BY_WORDS: tuple[tuple[str, Cause], ...] = (
    (r"Unsupported SASL mechanism.*?mechanisms: ?(?P<more>[\w,. -]*?) ?(?:\(after|$)", USER),
    (r"not valid in current SASL state", NO_SASL),
    # Not "SaslAuthenticateRequest failed": a broker that dies meanwhile.
    (r"SASL authentication error: \{", TOKEN),
    (r"SASL authentication error: (?!SaslAuth)|Invalid username or password", USER),
    (r"certificate verify failed", CERTIFICATE),
    (r"certificate required|bad certificate|client SSL authentication|alert unknown ca|"
     r"No matching issuer found", NO_CLIENT_CERTIFICATE),
    (r"PLAINTEXT broker listener|wrong version number|unexpected message|in state SSL_HANDSHAKE",
     NO_TLS),
    (r"(?:Disconnected|closed by peer).*in state APIVERSION_QUERY", WANTS_TLS),
    (r"(?:Disconnected|closed by peer).*in state UP", WANTS_SASL),
    (r"Failed to resolve", UNRESOLVED),
    (r"Connection refused", NOBODY_LISTENS),
    (r"No route to host|Network is unreachable|Connection setup timed out|in state CONNECT",
     NO_ROUTE),
    (r"ApiVersionRequest failed|timed out|Invalid response size|Timed out", NO_KAFKA),
)  # fmt: skip
"""How the client words it; the first that fits counts."""

VERIFY_CODES = {
    9: EXPIRED,  # not valid yet
    10: EXPIRED,
    18: UNKNOWN_CA,
    19: UNKNOWN_CA,
    20: UNKNOWN_CA,
    21: UNKNOWN_CA,
    62: OTHER_HOST,
    64: OTHER_HOST,
}
"""OpenSSL's reasons for a certificate that does not hold."""


def cause_of(words: str) -> Cause | None:
    """The cause in one thing that the client said; None: none is known."""
    for pattern, cause in BY_WORDS:
        found = re.search(pattern, words, re.DOTALL)
        if found is None:
            continue
        if "more" in found.groupdict():
            known = found["more"].strip(" ,.") or "others"
            return Cause(
                f"does not do this sasl.mechanism; it does {known}",
                f"set sasl.mechanism to {known}",
                "sasl.mechanism",
                3,
            )
        return cause
    return None
