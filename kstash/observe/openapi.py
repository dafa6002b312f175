"""The OpenAPI document of the HTTP port, made from what is answered (`kstash.observe.schema`)."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import msgspec

from kstash.observe import schema

TEXT = "text/plain"
JSON = "application/json"
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Operation:
    """A route.

    Attributes:
        path: of the route.
        name: of the operation, for generated clients.
        summary: of the answer.
        answer: type of an answer in JSON, or the media type of any other answer.
        is_open: whether it needs no token.
        is_probe: whether 503 is an answer too.
    """

    path: str
    name: str
    summary: str
    answer: Any
    is_open: bool = False
    is_probe: bool = False


OPERATIONS = (
    Operation("/metrics", "metrics", "Metrics in Prometheus' text format.", TEXT),
    Operation(
        "/livez", "livez", "Whether there is progress.", schema.Verdict, is_open=True, is_probe=True
    ),
    Operation("/readyz", "readyz", "Whether it runs.", schema.Verdict, is_open=True, is_probe=True),
    Operation("/status", "status", "What the worker, or all of the supervisor, do.", schema.Status),
    Operation("/workers", "workers", "What all workers do that are known.", schema.Workers),
    Operation("/topology", "topology", "Stages, topics and stores.", dict[str, Any]),
    Operation("/config", "config", "All settings, secrets masked.", schema.Settings),
    Operation(
        "/sd",
        "targets",
        "Addresses to scrape, for Prometheus' HTTP service discovery.",
        list[schema.TargetGroup],
    ),
    Operation("/openapi.json", "openapi", "This document.", dict[str, Any], is_open=True),
    Operation("/", "page", "The status page.", HTML, is_open=True),
)

_PEERS = {
    "name": "peers",
    "in": "query",
    "description": "Whether those that `http_peers` names are asked too.",
    "schema": {"type": "boolean", "default": True},
}

_REFUSALS = {
    "400": "No request, or one that names no host, or a query that is none.",
    "401": "The token is missing or another one.",
    "405": "Only GET and HEAD are answered.",
    "413": "A request has no body here.",
    "421": "Another host is asked for: see `http_hosts_allowed`.",
    "431": "Too many headers.",
}


def openapi_document() -> dict[str, Any]:
    """The document, for JSON."""
    types = [op.answer for op in OPERATIONS if not isinstance(op.answer, str)]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for name, component in components.items():
        _explain(component, getattr(schema, name))
    found = dict(zip(map(str, types), schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kstash",
            "version": metadata.version("kstash"),
            "description": "What a worker, or a supervisor of several, reports. "
            "Nothing that is asked changes anything. Times are Unix time in seconds.",
        },
        "servers": [{"url": "/"}],
        "paths": {op.path: {"get": _operation(op, found)} for op in OPERATIONS},
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                code: {"description": text, "content": {TEXT: {"schema": {"type": "string"}}}}
                for code, text in _REFUSALS.items()
            },
        },
    }


def _operation(op: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    is_text = isinstance(op.answer, str)
    media_type = op.answer if is_text else JSON
    content = {media_type: {"schema": {"type": "string"} if is_text else schemas[str(op.answer)]}}
    answers = {"200": {"description": op.summary, "content": content}}
    if op.is_probe:
        answers["503"] = {"description": "It does not, with the reasons.", "content": content}
    refused = [code for code in _REFUSALS if code != "401" or not op.is_open]
    return {
        "operationId": op.name,
        "summary": op.summary,
        "security": [] if op.is_open else [{"token": []}, {}],
        "parameters": [_PEERS] if op.path == "/workers" else [],
        "responses": {
            **answers,
            **{code: {"$ref": f"#/components/responses/{code}"} for code in refused},
        },
    }


def _explain(component: dict[str, Any], struct: type) -> None:
    """Give a schema and its fields the descriptions of the docstring, and a title."""
    text, _, attributes = inspect.getdoc(struct).partition("\n\nAttributes:\n")  # type: ignore[union-attr]
    component["description"] = " ".join(text.split())
    names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    for name, words in re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", attributes, re.MULTILINE):
        component["properties"][names[name]]["description"] = " ".join(words.split())
