"""The server's description of itself: complete, true to the readers of requests and to what is answered."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jaxprop_serve.http1 import endpoints, messages
from jaxprop_serve.http1.openapi import REFUSALS, words
from jaxprop_serve.http1.routes import Route
from jaxprop_serve.protocol import requests
from jaxprop_serve.settings import Settings
from jaxprop_serve.why.explain import Explain
from tests.serve.doors import acall, an_app, call
from tests.serve.explaining import body_of, serving
from tests.serve.oracle import X, publish
from tests.serve.process import Process
from tests.serve.test_by_column import a_model

OURS = [*endpoints.ROUTES, *Explain({}, Settings()).routes()]


@pytest.mark.parametrize("route", OURS, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_says_what_it_does_what_it_takes_and_what_it_gives(route):
    first = " ".join(route.handler.__doc__.split("\n\n")[0].split())
    path = route.path.replace("/versions/{version}", "")
    path = path if path == "/" else path.rstrip("/")
    assert first.replace("[/versions/{version}]", "").startswith(f"`{route.method} {path}`: ")
    assert words(route.handler)[0]
    assert route.gives is not None and (route.takes is not None) == (route.method == "POST")


@pytest.mark.parametrize(
    "described, read",
    [
        (messages.InferRequest, requests._Request),
        (messages.InferInput, requests._Input),
        (messages.InferOutput, requests._Output),
        (messages.RowsRequest, endpoints._Rows),
    ],
)
def test_what_is_described_is_what_is_read(described, read):
    def fields(kind):
        return {field.name: field.required for field in msgspec.structs.fields(kind)}

    assert fields(described) == fields(read)
    assert described.__struct_config__.forbid_unknown_fields == read.__struct_config__.forbid_unknown_fields


def kind_of(route, status=200):
    return route.gives[status] if isinstance(route.gives, dict) else route.gives


def test_answers_are_of_the_types_that_are_described(tmp_path):
    publish(tmp_path / "m")
    bodies = {"/infer": body_of({"x": X[:2]}), "/explain": body_of({"x": X[:2]}, layers=True),
              "/predict/{model}": {"rows": X[:2].tolist()}}  # fmt: skip

    async def ask(app):
        for route in sorted((*OURS, app.description), key=lambda route: route.path.endswith("unload")):
            path = route.path.format(model="m", version="1")
            body = next((body for end, body in bodies.items() if route.path.endswith(end)), b"")
            answer = await acall(app, route.method, path, body)
            assert answer.status == 200, (path, answer.json)
            if kind_of(route) is not str:
                msgspec.convert(answer.json, kind_of(route))

    serving(ask, tmp_path / "m")


def test_columns_are_described():
    found = call(an_app(a_model()), "GET", "/v2/models/digits").json
    assert msgspec.convert(found, messages.ModelMetadata)["columns"] == found["columns"]


def described(app, headers=()):
    answer = call(app, "GET", "/openapi.json", headers=headers)
    assert answer.status == 200, answer.json
    return answer.json


def bearer(token):
    return [(b"authorization", b"Bearer " + token.encode())]


def test_who_may_do_what_is_described_for_this_server_and_told_to_nobody_else():
    load, infer, live = "/v2/repository/models/{model}/load", "/v2/models/{model}/infer", "/v2/health/live"
    either = [{"token": []}, {"admin_token": []}]
    for tokens, expected in (
        ({}, ([], [], [])),
        ({"admin_token": "a"}, ([{"admin_token": []}], [], [])),
        ({"token": "t", "admin_token": "a"}, ([{"admin_token": []}], either, [])),
    ):
        app = an_app(**tokens)
        if "token" in tokens:
            assert call(app, "GET", "/openapi.json").status == 401
        paths = described(app, bearer("t") if tokens else ())["paths"]
        found = tuple(next(iter(paths[path].values()))["security"] for path in (load, infer, live))
        assert found == expected
        assert ("401" in paths[live]["get"]["responses"], "401" in paths[infer]["post"]["responses"]) == (False, True)


class Asked(msgspec.Struct):
    size: int


def test_routes_of_plugins_are_described_as_far_as_they_say():
    async def told(request, size):
        """Tell the sizes.

        Each is a number.

        Raises ServeError 400 for none.
        """

    async def silent(request):
        pass

    routes = [Route("POST", "/sizes/{size}", told, takes=Asked, gives=list[int]), Route("GET", "/silent", silent)]
    found = described(an_app(routes=routes))
    told = found["paths"]["/sizes/{size}"]["post"]
    assert (told["summary"], told["description"]) == ("Tell the sizes", "Each is a number.")
    assert [one["name"] for one in told["parameters"]] == ["size"] and told["requestBody"]["required"]
    assert told["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Asked"}
    assert found["components"]["schemas"]["Asked"]["properties"] == {"size": {"type": "integer"}}
    assert found["paths"]["/silent"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] == {}


def test_tensors_as_bytes_are_described_and_a_body_that_may_be_empty():
    paths = described(an_app())["paths"]
    infer = paths["/v2/models/{model}/infer"]["post"]
    kinds = {"application/json", "application/octet-stream"}
    assert infer["requestBody"]["content"].keys() == infer["responses"]["200"]["content"].keys() == kinds
    assert "Inference-Header-Content-Length" in [one["name"] for one in infer["parameters"]]
    assert "Inference-Header-Content-Length" in infer["responses"]["200"]["headers"]
    assert infer["requestBody"]["required"] and not paths["/v2/repository/index"]["post"]["requestBody"]["required"]


def test_every_status_of_a_refusal_is_described():
    text = "\n".join(file.read_text("utf-8") for file in Path(endpoints.__file__).parents[1].rglob("*.py"))
    raised = {int(part[:3]) for part in text.split("ServeError(")[1:] if part[:3].isdigit()}
    assert raised - {499, 405} <= set(REFUSALS), "499 reaches nobody, 405 belongs to methods that are not described"


@pytest.mark.slow
def test_schemathesis_finds_nothing_that_is_not_as_described(tmp_path):
    """Valid and invalid requests of its making, with and without tokens; and methods that there are not."""
    publish(tmp_path / "m")
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.model" = "m"\n"path.version" = "1"\n')
    with Process(tmp_path / "m", JAXPROP_TOKEN="user" * 8, JAXPROP_ADMIN_TOKEN="admin" * 8) as server:
        command = [
            Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{server.port}/openapi.json",
            "--header", f"Authorization: Bearer {'admin' * 8}", "--max-examples", "5", "--seed", "1", "--no-color",
            "--phases", "coverage,fuzzing", "--generation-database", "none", "--exclude-path-regex", "/unload",
            "--exclude-checks", "positive_data_acceptance",  # what fits the protocol need not fit this model
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert server.call("GET", "/v2/models/m/ready", Authorization="Bearer " + "user" * 8)[0] == 200


@pytest.mark.slow
def test_the_description_is_valid_openapi():
    import schemathesis

    found = described(an_app(a_model()))
    schemathesis.openapi.from_dict(found).validate()
    with pytest.raises(Exception, match="paths"):
        schemathesis.openapi.from_dict(found | {"paths": []}).validate()
