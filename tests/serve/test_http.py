"""The door as a whole: every endpoint, every refusal one JSON shape, nothing a client sends is a server's fault."""

import asyncio
import gzip
import zlib

import numpy as np
import orjson
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.routes import Mount, Reply, Route, Router
from tests.serve.doors import FakeModel, FakeModels, W, a_request, acall, an_app, call

INFER = "/v2/models/digits/infer"


@pytest.mark.parametrize(
    "method, path, status, part",
    [
        ("GET", "/v2", 200, {"name": "jaxprop"}),
        ("GET", "/v2/", 200, {"name": "jaxprop"}),
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/v2/health/ready", 200, {"ready": True}),
        ("GET", "/v2/models/digits", 200, {"name": "digits", "versions": ["1"], "platform": "jaxprop_saved",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}),
        ("GET", "/v2/models/digits/versions/1", 200, {"name": "digits"}),
        ("GET", "/v2/models/digits/ready", 200, {"name": "digits", "ready": True}),
        ("GET", "/v2/models/digits/versions/1/ready", 200, {"ready": True}),
        ("GET", "/v2/models/digits/versions/2/ready", 404, {}),
        ("GET", "/v2/models/digits/config", 200, {"max_batch_size": 64, "version_policy": {"all": {}},
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]}),
        ("GET", "/v2/models/digits/versions/1/config", 200, {"name": "digits"}),
        ("GET", "/v2/models/digits/stats", 200, {"model_stats": [{"name": "digits", "version": "1"}]}),
        ("GET", "/v2/models/digits/versions/1/stats", 200, {"model_stats": [{"name": "digits", "version": "1"}]}),
        ("GET", "/v2/models/stats", 200, {"model_stats": [{"name": "digits", "version": "1"}]}),
        ("GET", "/", 200, {"server": "jaxprop"}),
        ("GET", "/v2/models/none", 404, {}),
        ("GET", "/nothing", 404, {}),
        ("GET", "/v2/models//infer", 404, {}),
        ("GET", INFER, 405, {}),
        ("DELETE", "/v2", 405, {}),
        ("GET", "/metrics", 404, {}),
        ("POST", "/v2/models/none/infer", 404, {}),
        ("POST", "/v2/models/digits/versions/7/infer", 404, {}),
    ],
)  # fmt: skip
def test_every_endpoint(method, path, status, part):
    answer = call(an_app(), method, path)
    assert answer.status == status and answer.headers[b"content-type"] == b"application/json"
    assert {key: answer.json[key] for key in part} == part
    if status != 200:
        assert set(answer.json) == {"error"} and isinstance(answer.error, str) and answer.error


def test_inference_in_json_binary_and_compressed():
    app, x = an_app(), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    y = x @ W
    plain = call(app, "POST", INFER, a_request(x) | {"id": "7"})
    assert plain.status == 200 and plain.json["id"] == "7" and plain.json["outputs"][0]["shape"] == [5, 3]
    np.testing.assert_array_equal(np.float32(plain.json["outputs"][0]["data"]).reshape(5, 3), y)
    given = {"name": "x", "shape": [5, 4], "datatype": "FP32", "parameters": {"binary_data_size": 80}}
    text = orjson.dumps({"inputs": [given], "parameters": {"binary_data_output": True}})
    length = (b"inference-header-content-length", b"%d" % len(text))
    body = text + x.tobytes()
    for encoded, how in ((body, None), (gzip.compress(body), b"gzip"), (zlib.compress(body), b"deflate")):
        headers = [length, *([(b"content-encoding", how)] if how else []), (b"content-type", b"text/nonsense")]
        for chunks in (None, [encoded[:7], encoded[7:90], b"", encoded[90:]]):
            answer = call(app, "POST", "/v2/models/digits/versions/1/infer", encoded, headers, chunks=chunks)
            assert answer.status == 200, answer.error
            size = int(answer.headers[b"inference-header-content-length"])
            assert answer.body[size:] == y.tobytes()


def test_readiness_does_not_lie():
    app = an_app()
    app.models.is_ready = False
    answer = call(app, "GET", "/v2/health/ready")
    assert (answer.status, answer.json) == (503, {"ready": False})
    assert call(app, "GET", "/v2/health/live").status == 200


def test_the_repository():
    app = an_app()
    for body in (b"", {}, {"ready": False}):
        everything = call(app, "POST", "/v2/repository/index", body)
        assert [entry["state"] for entry in everything.json] == ["READY", "UNAVAILABLE"]
    assert len(call(app, "POST", "/v2/repository/index", {"ready": True}).json) == 1
    assert call(app, "POST", "/v2/repository/index", {"ready": "yes"}).status == 400
    assert call(app, "POST", "/v2/repository/models/digits/load", {}).status == 200
    assert (
        call(app, "POST", "/v2/repository/models/a%20b/unload", {"parameters": {"unload_dependents": True}}).status
        == 200
    )
    assert app.models.asked == [("load", "digits"), ("unload", "a b")]
    injected = call(app, "POST", "/v2/repository/models/digits/load", {"parameters": {"config": "{}"}})
    assert injected.status == 400 and len(app.models.asked) == 2


def test_people_send_rows_and_get_rows_and_labels():
    app, rows = an_app(), [[1, 2, 3, 4], [0, 0, -1, 0.5]]
    y = np.float32(rows) @ W
    for body in ({"rows": rows}, rows):
        answer = call(app, "POST", "/predict/digits", body)
        assert answer.status == 200 and set(answer.json) == {"model", "version", "rows", "labels", "probabilities"}
        np.testing.assert_array_equal(np.float32(answer.json["rows"]), y)
        assert answer.json["labels"] == ["abc"[i] for i in y.argmax(1)]
        softmax = np.exp(y) / np.exp(y).sum(1, keepdims=True)
        np.testing.assert_allclose(answer.json["probabilities"], softmax.max(1), atol=1e-6)
    image = FakeModel(row=(2, 2))
    image.loaded.classes = None
    app = an_app(image)
    shaped = call(app, "POST", "/predict/digits", [[[1, 2], [3, 4]]]).json
    assert shaped == call(app, "POST", "/predict/digits", {"rows": [[1, 2, 3, 4]]}).json
    assert set(shaped) == {"model", "version", "rows"}
    for datatype in ("FP16", "BF16"):  # people need not know what a half is
        app = an_app(FakeModel(datatype=datatype))
        assert call(app, "POST", "/predict/digits", [[1, 2, 3, 4]]).json["rows"] == shaped["rows"]
        too_large = call(app, "POST", "/predict/digits", [[1, 2, 3, 3.4e38]])
        assert too_large.status == 400 and datatype in too_large.error


@pytest.mark.parametrize("body, says", [
    ({"rows": []}, "rows"), ([], "rows"), ({"rows": [[1, 2, 3]]}, "`$.rows[0]` has 3 elements, expected 4"),
    ({"rows": [[1, 2, 3, "4"]]}, "$.rows[0][3]"), ({"rows": [1, 2]}, "list of lists"), ({"row": [[1]]}, "`row`"),
    ({"rows": [[1, 2, 3, 4], [1]]}, "$.rows[1]"), (b"[[1,2,3,1e99]]", "does not fit"), (b"5", "rows"), (b"", "rows"),
    (b"[[1,2,3,NaN]]", "JSON"), ([[1, 2, 3, 4]] * 65, "1 to 64 rows"), ({"rows": [[1, 2, 3, 4]], "x": 1}, "x"),
])  # fmt: skip
def test_what_people_get_wrong_is_named(body, says):
    answer = call(an_app(), "POST", "/predict/digits", body)
    assert answer.status == 400 and says in answer.error and answer.error.startswith("rows for model 'digits': ")


def test_load_balancers_may_ask_with_head():
    app = an_app()
    assert call(app, "HEAD", "/v2/health/ready").status == 200
    app.models.is_ready = False
    assert call(app, "HEAD", "/v2/health/ready").status == 503
    assert call(app, "HEAD", "/v2/models/digits/infer").status == 405


def test_a_path_says_which_methods_it_has():
    app = an_app(token="t")
    mine = [(b"authorization", b"Bearer t")]
    for path, allowed in (("/v2", b"GET, HEAD, OPTIONS"), (INFER, b"OPTIONS, POST")):
        for method, status in (("PUT", 405), ("TRACE", 405), ("OPTIONS", 204)):
            answer = call(app, method, path, headers=mine)
            assert (answer.status, answer.headers[b"allow"]) == (status, allowed)
    assert call(app, "OPTIONS", "/nothing", headers=mine).status == 404
    assert b"allow" not in call(app, "OPTIONS", "/v2").headers, "strangers do not learn which paths there are"


def test_load_and_unload_go_to_all_workers_where_there_are_several():
    app = an_app(workers=2)
    app.models.everywhere = FakeModels()
    for what in ("load", "unload"):
        assert call(app, "POST", f"/v2/repository/models/digits/{what}").status == 200
    assert app.models.everywhere.asked == [("load", "digits"), ("unload", "digits")] and not app.models.asked


def test_a_deadline_is_counted_from_arrival_and_answers_504():
    model = FakeModel()
    app = an_app(model)
    assert call(app, "POST", INFER, a_request() | {"parameters": {"timeout": 60_000_000}}).status == 200
    late = asyncio.run(acall(app, "POST", INFER, chunks=[lambda: asyncio.sleep(0.01), *_late()]))
    assert late.status == 504 and late.error


def _late():
    return [orjson.dumps(a_request() | {"parameters": {"timeout": 5000}}, option=orjson.OPT_SERIALIZE_NUMPY)]


def test_what_nobody_foresaw_is_a_500_with_an_id_in_the_log_and_no_traceback():
    events = []
    app = an_app(log=lambda level, event, **fields: events.append((level, event, fields)))

    async def broken(*_):
        raise ZeroDivisionError("secret detail")

    app.models.models["digits"].infer = broken
    answer = call(app, "POST", INFER, a_request(), [(b"x-request-id", b"mine-1")])
    assert answer.status == 500 and "mine-1" in answer.error and "secret" not in answer.error
    assert answer.headers[b"x-request-id"] == b"mine-1"
    level, event, fields = events[0]
    assert (level, event, fields["id"]) == ("error", "unforeseen", "mine-1")
    assert isinstance(fields["exception"], ZeroDivisionError)
    insane = call(app, "POST", INFER, a_request(), [(b"x-request-id", b"a\xffb" * 99)])
    assert insane.status == 500 and len(insane.headers[b"x-request-id"]) < 40


def test_metrics_and_log_see_every_request_once():
    class Metrics:
        def __init__(self):
            self.seen, self.reasons = [], []

        def request(self, model, version, protocol, route, code, seconds):
            assert seconds >= 0 and protocol == "http" and route in ("/v2/models/{model}/infer", "/metrics")
            self.seen.append((model, version, code))

        def rejected(self, reason, protocol, route):
            self.reasons.append(reason)

        async def scrape(self):
            return b"up 1\n"

    class Log:
        requests = True

        def __init__(self):
            self.codes = []

        def request(self, client, method, path, route, code, *_):
            self.codes.append((path, route, code))

    metrics, log = Metrics(), Log()
    app = an_app(metrics=metrics, log=log)
    call(app, "POST", INFER, a_request())
    call(app, "POST", INFER, b"{")
    call(app, "POST", "/v2/models/" + "x" * 30 + "/infer", b"{")
    app.models.models["digits"].full = True
    full = call(app, "POST", INFER, a_request())
    assert (full.status, full.headers[b"retry-after"], full.read) == (429, b"1", 0)
    assert metrics.seen == [("digits", "1", 200), ("digits", "1", 400), ("", "", 404), ("digits", "1", 429)]
    assert metrics.reasons == ["queue"]
    route = "/v2/models/{model}/infer"
    assert log.codes == [
        (path, route, code)
        for path, code in ((INFER, 200), (INFER, 400), ("/v2/models/" + "x" * 30 + "/infer", 404), (INFER, 429))
    ]
    text = call(app, "GET", "/metrics")
    assert text.body == b"up 1\n" and text.headers[b"content-type"].startswith(b"text/plain")


def test_routes_and_mounts_of_others():
    async def explain(request, model):
        body = await request.body()
        return Reply(b'{"model": "%s", "bytes": %d}' % (model.encode(), len(body)), [])

    async def plugin(scope, receive, send):
        if scope["path"].endswith("/broken"):
            raise RuntimeError
        text = b'{"root": "%s", "n": %d}' % (scope["root_path"].encode(), len((await receive())["body"]))
        length = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": text})

    routes = [Route("POST", "/v2/models/{model}/explain", explain), Mount("/ui", plugin)]
    app = an_app(routes=routes, max_body_bytes=100, log=lambda *_, **__: None)
    assert call(app, "POST", "/v2/models/digits/explain", b"123").json == {"model": "digits", "bytes": 3}
    assert call(app, "POST", "/ui/page", b"12345").json == {"root": "/ui", "n": 5}
    assert call(app, "GET", "/ui/broken").status == 500
    assert call(app, "POST", "/ui", b"1" * 101).status == 413
    assert call(app, "POST", "/ui", b"1", [(b"transfer-encoding", b"gzip, chunked")]).status == 501
    assert call(app, "GET", "/uii").status == 404
    with pytest.raises(ValueError, match="two handlers"):
        an_app(routes=[Route("GET", "/v2", explain)])


def test_a_literal_part_goes_before_a_name_and_a_name_may_look_like_one():
    found = []
    router = Router([Route("GET", "/m/{model}", found.append), Route("GET", "/m/stats", found.append),
                     Route("POST", "/m/{model}/infer", found.append)])  # fmt: skip
    assert router.find("GET", b"/m/stats").names == {}
    assert router.find("POST", b"/m/stats/infer").names == {"model": "stats"}
    assert router.find("GET", b"/m/a%20b").names == {"model": "a b"}
    for i in range(3000):
        router.find("GET", b"/m/%d" % i)
    assert len(router._remembered) <= 1024
    with pytest.raises(ServeError, match="use GET"):
        router.find("PUT", b"/m/stats")


@pytest.mark.parametrize("name", [
    "..%2f..%2fetc%2fpasswd", "..", ".", "%2e%2e", "a%00b", "%ff%fe", "%C3%A9", "x" * 10_000, "a%5cb",
    "%0d%0aset-cookie:a", "%",
])  # fmt: skip
def test_a_name_can_never_be_a_path(name):
    app = an_app()
    paths = ("GET /v2/models/{}", "POST /v2/models/{}/infer", "GET /v2/models/digits/versions/{}", "POST /predict/{}")
    for path in paths:
        answer = call(app, *path.format(name).split())
        assert answer.status in (400, 404) and isinstance(answer.error, str) and len(answer.body) < 500
    answer = call(app, "POST", f"/v2/repository/models/{name}/load")
    assert answer.status in (400, 404) or app.models.asked == [("load", "é")] or app.models.asked == [("load", "%")]
    assert all(not set(asked) & set("/\\\0\n") for _, asked in app.models.asked)


def test_a_client_that_goes_away_gets_no_answer_and_no_error():
    app = an_app(log=lambda *_, **__: pytest.fail("nothing to log"))
    assert call(app, "POST", INFER, chunks=[]).status is None

    async def leave():
        model = app.models.models["digits"]

        async def slow(*_):
            await asyncio.sleep(60)

        model.infer = slow
        task = asyncio.create_task(acall(app, "POST", INFER, a_request()))
        await asyncio.sleep(0.05)
        task.cancel()
        return await task

    assert asyncio.run(leave()).status is None


def test_lifespan_is_acknowledged_and_websockets_are_closed():
    async def run():
        sent, messages = [], [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message["type"])

        await an_app()({"type": "lifespan"}, receive, send)
        await an_app()({"type": "websocket"}, receive, send)
        return sent

    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
