"""`GET /openapi.json`: an OpenAPI 3.1 description of this server, made from its own routes.

A route's words are its handler's docstring; its bodies are the types that it names (`takes`, `gives`), of which msgspec
makes schemas; which token it needs is what the settings say. Routes of plugins are described in the same way.
Applications that a plugin mounts are not.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from jaxprop_serve.http1.endpoints import reply, server_version
from jaxprop_serve.http1.messages import Error, InferAnswer, InferRequest
from jaxprop_serve.http1.request import Request
from jaxprop_serve.http1.routes import Reply, Route
from jaxprop_serve.settings import Settings

LENGTH = "Inference-Header-Content-Length"
REFUSALS = {
    400: "Something is wrong with the request itself, or its answer would be too large.",
    401: "The request has no valid token.",
    403: "The token does not open this, or the Host or Origin is foreign.",
    404: "There is no such model or version.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "The Content-Encoding is not known here.",
    429: "The server is busy; Retry-After says when to try again.",
    431: "The request's header is too large.",
    500: "The model failed on these rows, or there is a bug.",
    501: "This server, or this model, cannot do this.",
    503: "The model is not ready, the server is stopping, or there are too many connections.",
    504: "The time that the request gave was over before it was answered.",
}
_WITH_A_BODY = (413, 415, 429, 501, 504)
_PATH = {"model": "A model's name.", "version": "A version's number; the highest answers where none is given."}
_BINARY = "JSON, and behind it the tensors' bytes in their order."
_LENGTH = (
    "Bytes of JSON; tensors follow, little-endian and row-major. Where it is 0, the body is the one input's bytes."
)
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "Opens all but load and unload."},
    "admin_token": {"type": "http", "scheme": "bearer", "description": "Opens all."},
}


def describing(routes: Iterable[Route], settings: Settings) -> Route:
    """Return the route that answers with the description of `routes` and of itself."""
    described = list(routes)

    @cache
    def made() -> Reply:
        return reply(describe(described, settings))

    async def description(request: Request) -> Reply:
        """`GET /openapi.json`: this description."""
        body, headers, status = made()
        return Reply(body, list(headers), status)

    described.append(Route("GET", "/openapi.json", description, gives=dict[str, Any]))
    return described[-1]


def describe(routes: Iterable[Route], settings: Settings) -> dict[str, Any]:
    """Return the description of these routes as plain data."""
    routes = list(routes)
    kinds = [Error, *(kind for route in routes for kind in (route.takes, *_gives(route).values()) if kind is not None)]
    found, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema = {id(kind): one for kind, one in zip(kinds, found, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema, settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jaxprop serve",
            "version": server_version(),
            "description": "Trained models behind the Open Inference Protocol v2. HEAD is answered where GET is.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "responses": _refusals(found[0]), "securitySchemes": _SECURITY},
    }


def words(handler: Callable[..., Any]) -> tuple[str, str]:
    """Return the summary and the description that a handler's docstring has, without what is for programmers.

    >>> words(describing([], Settings()).handler)
    ('This description', '')
    """
    first, *more = (inspect.getdoc(handler) or "").split("\n\n")
    line = " ".join(first.split())
    summary = (line.partition("`: ")[2] if line.startswith("`") else line).rstrip(".")
    kept = (part for part in more if not part.startswith(("Args:", "Raises", "ServeError")))
    return summary[:1].upper() + summary[1:], "\n\n".join(kept)


def _operation(route: Route, schema: dict[int, Any], settings: Settings) -> dict[str, Any]:
    """Return what a route does, takes and gives."""
    summary, more = words(route.handler)
    parameters: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "description": _PATH.get(part[1:-1], ""),
         "schema": {"type": "string", "minLength": 1, "maxLength": 255}}
        for part in route.path.split("/") if part.startswith("{")
    ]  # fmt: skip
    operation = {"summary": summary, "description": more, "parameters": parameters}
    if route.takes is not None:
        content: dict[str, Any] = {"application/json": {"schema": schema[id(route.takes)]}}
        if route.takes is InferRequest:
            content["application/octet-stream"] = {"schema": {"description": _BINARY}}
            length = {"type": "integer", "minimum": 0}
            parameters.append({"name": LENGTH, "in": "header", "description": _LENGTH, "schema": length})
        operation["requestBody"] = {"content": content, "required": not _may_be_empty(route.takes)}
    return operation | {"responses": _responses(route, schema), "security": _security(route, settings)}


def _responses(route: Route, schema: dict[int, Any]) -> dict[str, Any]:
    """Return every answer by its status."""
    never = {401} if route.level == "open" else set()
    never |= set(_WITH_A_BODY) if route.method == "GET" else set()
    never |= set() if "{" in route.path else {404}
    found: dict[int, Any] = {s: {"$ref": f"#/components/responses/{s}"} for s in REFUSALS if s not in never}
    for status, kind in _gives(route).items():
        own = schema[id(kind)]
        content: dict[str, Any] = {"application/json": {"schema": own}}
        if kind is str:
            content = {"text/plain": {"schema": own}}
        elif kind is InferAnswer:
            content["application/octet-stream"] = {"schema": {"description": _BINARY}}
        if status in found:
            content = {"application/json": {"schema": {"anyOf": [own, schema[id(Error)]]}}}
        found[status] = {"description": HTTPStatus(status).phrase, "content": content}
        if kind is InferAnswer:
            found[status]["headers"] = {LENGTH: {"description": _LENGTH, "schema": {"type": "integer", "minimum": 1}}}
    return {str(status): found[status] for status in sorted(found)}


def _refusals(error: Any) -> dict[str, Any]:
    """Return what every refusal is, by its status."""
    found: dict[str, Any] = {
        str(status): {"description": text, "content": {"application/json": {"schema": error}}}
        for status, text in REFUSALS.items()
    }
    for status in ("429", "503"):
        found[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


def _gives(route: Route) -> dict[int, Any]:
    """Return the types of a route's answers by their status."""
    return route.gives if isinstance(route.gives, dict) else {200: Any if route.gives is None else route.gives}


def _may_be_empty(kind: Any) -> bool:
    """Return whether every field of a request's body may be left out, and so the body itself."""
    try:
        msgspec.convert({}, kind)
    except msgspec.ValidationError:
        return False
    return True


def _security(route: Route, settings: Settings) -> list[dict[str, list[str]]]:
    """Return which tokens open a route; none is needed for what is open, and for users where none is set."""
    needed = {"open": (), "user": ("token", "admin_token"), "admin": ("admin_token",)}[route.level]
    if settings.token is None and (route.level == "user" or settings.admin_token is None):
        needed = ()
    return [{name: []} for name in needed]
