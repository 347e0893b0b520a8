"""The scorer's OpenAPI document, made from the forms themselves, and a page of it that needs no other server."""

from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from stream.serving import forms
from stream.settings import Settings

_REFUSALS = {
    400: "the body is not JSON",
    401: "the token is missing or wrong (serving.token)",
    413: "the body or the number of candidates is beyond its limit",
    422: "a value is missing or of the wrong kind; the error names it",
    503: "no weights yet, too many requests at a time, or out of time: come again after Retry-After seconds",
}
_OF_DECISIONS = {
    403: "no token is set (serving.token), and others than this machine could decide",
    409: "it cannot be done as things are; the error says why",
}
_DECISIONS = ("/v1/rollout", "/v1/rollback")
_PATHS: tuple[tuple[str, str, str, type | None, type | None], ...] = (
    ("POST", "/v1/score", "Probability and rank score per candidate, as asked.", forms.Asked, forms.Answer),
    ("POST", "/v1/rank", "The best n, best first; ties as asked.", forms.RankAsked, forms.Answer),
    ("POST", "/v1/explain", "One score taken apart.", forms.ExplainAsked, forms.Explanation),
    ("POST", "/v1/shown", "What of it was shown: written to Kafka.", forms.ShownAsked, forms.ShownAnswer),
    ("GET", "/v1/weights", "The weights in use.", None, forms.WeightsInUse),
    ("GET", "/v1/rollout", "What is decided about weights: pinned, stable, held, and why.", None, forms.RolloutNow),
    ("PUT", "/v1/rollout", "Pin, unpin, hold, release.", forms.RolloutAsked, forms.RolloutNow),
    (
        "POST",
        "/v1/rollback",
        "Serve an earlier version to all; learning goes on.",
        forms.RollbackAsked,
        forms.RolloutNow,
    ),
    ("GET", "/metrics", "Prometheus.", None, None),
    ("GET", "/healthz", "Whether it runs.", None, None),
    ("GET", "/readyz", "Whether it has verified weights that are young enough.", None, None),
    ("GET", "/v2", "Open Inference Protocol: the server.", None, None),
    ("GET", "/v2/health/live", "Open Inference Protocol: as /healthz.", None, None),
    ("GET", "/v2/health/ready", "Open Inference Protocol: as /readyz.", None, None),
    ("GET", "/v2/models/coldstream", "Open Inference Protocol: inputs and outputs.", None, None),
    ("GET", "/v2/models/coldstream/ready", "Open Inference Protocol: as /readyz.", None, None),
    ("POST", "/v2/models/coldstream/infer", "Open Inference Protocol: score.", None, None),
)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h2{font-size:1.05rem;margin:1.6rem 0 .2rem}h2 b{display:inline-block;min-width:3.4rem}"
    "pre{background:#f4f6f8;padding:.7rem;overflow:auto;border-radius:4px;font-size:13px}summary{cursor:pointer}"
    "@media(prefers-color-scheme:dark){body{background:#14171a;color:#dde3e9}pre{background:#20252b}}"
)


def document(settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1.

    Args:
        settings: effective settings; declared fields are described, secrets are not.
    """
    of = [form for _, _, _, *both in _PATHS for form in both if form is not None]
    schemas, components = msgspec.json.schema_components(
        [*of, forms.Failed], ref_template="#/components/schemas/{name}"
    )
    by_form = dict(zip([*of, forms.Failed], schemas, strict=True))
    paths: dict[str, Any] = {}
    for method, path, said, asked, answered in _PATHS:
        operation: dict[str, Any] = {
            "summary": said,
            "responses": _responses(by_form, answered, _refusals(path) if asked is not None else {}),
        }
        if asked is not None:
            operation["requestBody"] = {"required": True, "content": _json(by_form[asked])}
        paths.setdefault(path, {})[method.lower()] = operation
    fields = ", ".join(f"{field.name} ({field.kind}, {field.group})" for field in settings.fields)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Coldstream scorer",
            "version": _version(),
            "description": f"Declared fields: {fields}. Task: {settings.main_task.name}.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if settings.serving.token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _refusals(path: str) -> dict[int, str]:
    return _REFUSALS | _OF_DECISIONS if path in _DECISIONS else _REFUSALS


def _responses(by_form: dict[Any, Any], answered: type | None, refusals: Mapping[int, str]) -> dict[str, Any]:
    content = {"content": _json(by_form[answered])} if answered is not None else {}
    found: dict[str, Any] = {"200": {"description": "as asked", **content}}
    for status, said in refusals.items():
        found[str(status)] = {"description": said, "content": _json(by_form[forms.Failed])}
    return found


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _version() -> str:
    try:
        return version("coldstream")
    except PackageNotFoundError:
        return "0"


def page(found: dict[str, Any]) -> str:
    """The document for people: one file without a script."""
    parts = []
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><b>{method.upper()}</b> {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
            if "requestBody" in operation:
                parts.append(_shown(found, operation["requestBody"]["content"], "asked"))
            answered = operation["responses"]["200"].get("content")
            if answered:
                parts.append(_shown(found, answered, "answered"))
    info = found["info"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="/openapi.json">openapi.json</a></p>{"".join(parts)}</body></html>'
    )


def _shown(found: dict[str, Any], content: dict[str, Any], what: str) -> str:
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = msgspec.json.format(msgspec.json.encode(found["components"]["schemas"][name]), indent=2).decode()
    return f"<details><summary>{what}: {escape(name)}</summary><pre>{escape(schema)}</pre></details>"
