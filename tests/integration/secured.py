"""A broker with TLS, SCRAM and an authorizer, and certificates that tests make for it.

Each listener beyond the first is one way of being secured, or of being secured wrongly:

- `plain`: without anything; who comes here is a superuser, as which tests give and take rights;
- `scram`: TLS, and a user of SCRAM-SHA-512;
- `expired`, `foreign`, `elsewhere`: TLS with a certificate that is out of date, signed by nobody
  known, made for another host;
- `mutual`: TLS that wants a certificate of the client;
- `tokens`: OAUTHBEARER with tokens that nobody signed.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import json
import re
import socket
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kstash.broker import DevBroker

USER, PASSWORD = "ada", "correct horse"
DAY = timedelta(days=1)
LISTENERS = ("scram", "expired", "foreign", "elsewhere", "mutual", "tokens")

DOCUMENT = Path(__file__).parents[2] / "docs/operating/running.md"
GRANT_DEADLINE_S = 30

Right = tuple[ResourceType, str, ResourcePatternType, AclOperation]

Key = ec.EllipticCurvePrivateKey


def _pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


class Authority:
    """A CA of the tests."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        made = self._sign(self._name, self._key, [], 365 * DAY, is_authority=True)
        self.file.write_text(made)

    def issue(self, name: str, hosts: list[str], *, lasts: timedelta = 365 * DAY) -> Path:
        """Write a file with a key and its certificate; `lasts` may be over already."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        file = self._folder / f"{name}.pem"
        file.write_text(_pem(key) + self._sign(subject, key, hosts, lasts))
        return file

    def _sign(
        self,
        subject: x509.Name,
        key: Key,
        hosts: list[str],
        lasts: timedelta,
        *,
        is_authority: bool = False,
    ) -> str:
        now = datetime.now(UTC)
        names: list[x509.GeneralName] = []
        for host in hosts:
            is_address = host[0].isdigit()
            names.append(
                x509.IPAddress(ipaddress.ip_address(host)) if is_address else x509.DNSName(host)
            )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return (
            builder.sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class SecuredBroker:
    """A context manager of the broker.

    Args:
        folder: of the certificates.
        config: further settings of the broker.

    Attributes:
        addresses: by listener.
        admin: a client of the superuser.
        authority: that has signed the good certificates.
        client_certificate: client settings of one that `mutual` takes.
    """

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        foreign = Authority(folder, "nobody")
        here = ["127.0.0.1", "localhost"]
        certificate = str(self.authority.issue("client", []))
        self.client_certificate = {
            "ssl.certificate.location": certificate,
            "ssl.key.location": certificate,
        }
        good = self.authority.issue("broker", here)
        certificates = {
            "scram": good,
            "mutual": good,
            "expired": self.authority.issue("expired", here, lasts=-DAY),
            "foreign": foreign.issue("foreign", here),
            "elsewhere": self.authority.issue("elsewhere", ["elsewhere.example"]),
        }
        ports = _free_ports(len(LISTENERS))
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(LISTENERS, ports, strict=True)
        }
        protocols = dict.fromkeys(certificates, "SSL")
        protocols |= {"scram": "SASL_SSL", "tokens": "SASL_PLAINTEXT"}
        mapped = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        mapped += [f"FURTHER{i}:{protocols[name]}" for i, name in enumerate(LISTENERS)]
        chosen: dict[str, object] = {
            "listener.security.protocol.map": ",".join(mapped),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        for index, name in enumerate(LISTENERS):
            prefix = f"listener.name.further{index}"
            if name in certificates:
                chosen |= {
                    f"{prefix}.ssl.keystore.type": "PEM",
                    f"{prefix}.ssl.keystore.location": certificates[name],
                    f"{prefix}.ssl.truststore.type": "PEM",
                    f"{prefix}.ssl.truststore.location": self.authority.file,
                }
            if name == "mutual":
                chosen[f"{prefix}.ssl.client.auth"] = "required"
            if name == "scram":
                module = "org.apache.kafka.common.security.scram.ScramLoginModule"
                chosen[f"{prefix}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
                chosen[f"{prefix}.scram-sha-512.sasl.jaas.config"] = f"{module} required;"
            if name == "tokens":
                module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
                chosen[f"{prefix}.sasl.enabled.mechanisms"] = "OAUTHBEARER"
                chosen[f"{prefix}.oauthbearer.sasl.jaas.config"] = (
                    f'{module} required unsecuredLoginStringClaim_sub="broker";'
                )
        self.broker = DevBroker(
            config=chosen | config, listeners={0: [(port, port) for port in ports]}
        )

    def __enter__(self) -> Self:
        self.broker.start()
        self.addresses["plain"] = self.broker.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.addresses["plain"]})
        self.change_password(PASSWORD)
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.close()

    def change_password(self, password: str) -> None:
        """Give the user this one; who is connected stays so."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = self.admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, info, password.encode())]
        )
        for future in made.values():
            future.result(30)

    @property
    def tls(self) -> dict[str, Any]:
        """Client settings of TLS."""
        return {"security.protocol": "SSL", "ssl.ca.location": str(self.authority.file)}

    @property
    def scram(self) -> dict[str, Any]:
        """Client settings of the user."""
        return self.tls | {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }


def unsigned_token(subject: str, lasts_s: float = 3600) -> tuple[str, float]:
    """A token of OAUTHBEARER that nobody signed, and when it is over, in seconds."""
    ends = time.time() + lasts_s
    parts = [{"alg": "none"}, {"sub": subject, "iat": time.time(), "exp": ends}]
    texts = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*texts, ""]), ends


def documented_rights(application_id: str, source: str, sink: str) -> list[Right]:
    """Each right that docs/operating/running.md gives to an application, by the commands there."""
    names = {"ID": application_id, "ID-": f"{application_id}-", "INPUT": source, "SINK": sink}
    kinds = {
        "--topic": ResourceType.TOPIC,
        "--group": ResourceType.GROUP,
        "--transactional-id": ResourceType.TRANSACTIONAL_ID,
    }
    found: list[Right] = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if not line.startswith("kafka-acls.sh --add"):
            continue
        words = line.split()
        options = list(itertools.pairwise(words))
        kind, name = next((kinds[o], names.get(v, v)) for o, v in options if o in kinds)
        is_prefix = ("--resource-pattern-type", "prefixed") in options
        pattern = ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL
        for option, value in options:
            if option == "--operation":
                operation = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value).upper()
                found.append((kind, name, pattern, AclOperation[operation]))
    assert found, "the commands are not where they were"
    return found


class Rights:
    """What the user may do, given and taken by the superuser; nothing at first."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin

    def give(self, rights: Iterable[Right]) -> None:
        """Allow these, beside what is allowed already."""
        rules = [
            AclBinding(kind, name, pattern, f"User:{USER}", "*", operation, _ALLOW)
            for kind, name, pattern, operation in rights
        ]
        for future in self._admin.create_acls(rules).values():
            future.result(GRANT_DEADLINE_S)

    def take_all(self) -> None:
        """Allow nothing."""
        anything: Any = None  # the stubs know of no such thing
        every = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            f"User:{USER}",
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for future in self._admin.delete_acls([every]).values():
            future.result(GRANT_DEADLINE_S)


_ALLOW = AclPermissionType.ALLOW
