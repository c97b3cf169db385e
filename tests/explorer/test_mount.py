"""The explorer within the model server: whom it answers, what it opens, and that it changes nothing."""

import asyncio
import json
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop_explorer import mount
from jaxprop_serve.assembly import assemble
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.settings import Settings
from tests.serve.oracle import NET, X, publish

TOKEN = "t" * 20
BEARER = [(b"authorization", b"Bearer " + TOKEN.encode())]


async def asked(app, method, path, body, headers):
    """One request as a server hands it over, its path decoded."""
    waiting, sent, scope = [body], [], {
        "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"host", b"localhost:8000"), *headers], "client": None, "http_version": "1.1",
    }  # fmt: skip

    async def receive():
        if not waiting:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:])
    found = json.loads(text) if text[:1] == b"{" else None
    return SimpleNamespace(status=sent[0]["status"], headers=dict(sent[0]["headers"]), json=found)


def served(tmp_path, talk, **settings):
    """Run `talk(ask)` with a server of two models; `ask(method, path, body=None, headers=BEARER)`."""
    publish(tmp_path / "a", seed=1)
    publish(tmp_path / "b", seed=2)

    async def main():
        given = Settings(token=TOKEN, max_batch=1, **settings)
        models, _ = assemble(given, [str(tmp_path / "a"), str(tmp_path / "b")])
        await models.start()
        app = create_app(models, given, routes=mount.service(models, given))

        async def ask(method, path, body=None, headers=BEARER):
            return await asked(app, method, path, json.dumps(body or {}).encode(), headers)

        try:
            await talk(ask)
        finally:
            await models.stop()

    asyncio.run(main())


def test_questions_need_the_token_and_files_do_not(tmp_path):
    async def talk(ask):
        for path in ("/explorer/", "/explorer/app.js", "/explorer/panels/model.js"):
            answer = await ask("GET", path, headers=[])
            assert answer.status == 200 and b"default-src 'none'" in answer.headers[b"content-security-policy"]
        assert (await ask("GET", "/explorer", headers=[])).headers[b"location"] == b"explorer/"
        for path in (
            "/explorer/api/sessions",
            "/explorer/api/sessions/x/model/about",
            "/explorer/api/sessions/x/events",
        ):
            assert (await ask("POST", path, headers=[])).status == 401
            assert (await ask("POST", path, headers=[(b"authorization", b"Bearer no")])).status == 401
        for path in ("/explorer/%61pi/sessions", "/explorer//api/sessions", "/explorer/./api/sessions"):
            assert (await ask("POST", path, headers=[])).status in (404, 405)  # the files' application has no questions
        for path in ("/explorer/../services", "/explorer/%2e%2e/command.py", "/explorer/..%2fmount.py"):
            assert (await ask("GET", path)).status == 404
        foreign = [*BEARER, (b"origin", b"http://evil.example")]
        assert (await ask("POST", "/explorer/api/sessions", headers=foreign)).status == 403

    served(tmp_path, talk)


def test_models_are_opened_by_name_and_not_changed(tmp_path):
    async def talk(ask):
        for name in ("a", "b"):
            opened = (await ask("POST", "/explorer/api/sessions", {"served": name})).json
            frame, at = opened["frame"], f"/explorer/api/sessions/{opened['session']}"
            assert frame["opened"]["others"] == ["a", "b"] and frame["opened"]["name"] == name
            W = np.reshape(frame["layers"][0]["W"]["values"], (4, 8))
            np.testing.assert_array_equal(W, jp.load(tmp_path / name)[1][0].W)
            assert (await ask("POST", f"{at}/model/layer", {"path": "2"})).status == 200
            for command, body in (("step", {}), ("play", {}), ("edit", {"path": "0.W", "index": [0, 0], "value": 1})):
                answer = await ask("POST", f"{at}/network/{command}", body)
                told = answer.json.get("error", "")
                assert "is served as it is" in told or (command == "play" and not frame["playing"])
            assert (await ask("POST", f"{at}/digit/choices")).json["error"].startswith("there is no command")
        assert "unknown model 'c'" in (await ask("POST", "/explorer/api/sessions", {"served": "c"})).json["error"]

    served(tmp_path, talk)


def test_few_pages_are_open_at_once(tmp_path):
    async def talk(ask):
        statuses = [(await ask("POST", "/explorer/api/sessions")).status for _ in range(mount.PAGES + 1)]
        assert statuses == [200] * mount.PAGES + [400]

    served(tmp_path, talk)


def test_several_workers_are_refused_in_words():
    with pytest.raises(JaxpropError, match="found workers = 2: serve with one worker, or without the explorer"):
        mount.service(None, Settings(workers=2))


def test_a_file_that_a_model_names_is_not_read(tmp_path):
    """A served folder decides nothing about what a page sees of the server's machine."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b,c,d,y\n" + "1,2,3,4,0\n" * 10)
    from jaxprop_explorer.opened import of_served
    from jaxprop_serve.models.runtimes import SavedRuntime
    from tests.drawing import draw

    jp.save(
        tmp_path / "m", NET, draw(NET, X), inputs=X, cost=jp.HalfSquaredError(), info={"data": {"name": str(secret)}}
    )
    given = of_served("m", SavedRuntime().load(tmp_path / "m"))
    assert "made up" in given.notes[0] and not np.any(np.all(given.rows.x == [1, 2, 3, 4], axis=1))
