"""Tokens, Host and Origin: who gets in, and that a refusal says nothing it should not."""

import pytest

from jaxprop_serve.http1.routes import Reply, Route
from tests.serve.doors import a_request, an_app, call

INFER = "/v2/models/digits/infer"
LOAD = "/v2/repository/models/digits/load"


def bearer(token):
    return [(b"authorization", f"Bearer {token}".encode())]


def codes(app, headers):
    paths = [
        ("GET", "/v2/health/live"),
        ("GET", "/v2/models/digits"),
        ("POST", INFER),
        ("GET", "/metrics"),
        ("POST", LOAD),
    ]
    found = []
    for method, path in paths:
        body = a_request() if path == INFER else b""
        found.append(call(app, method, path, body, headers).status)
    return found


class Metrics:
    def request(self, *_):
        pass

    rejected = request

    async def scrape(self):
        return b""


@pytest.mark.parametrize(
    "tokens, headers, expected",
    [
        (dict(), [], [200, 200, 200, 200, 200]),
        (dict(token="user"), [], [200, 401, 401, 401, 401]),
        (dict(token="user"), bearer("user"), [200, 200, 200, 200, 403]),
        (dict(token="user", admin_token="root"), bearer("user"), [200, 200, 200, 200, 403]),
        (dict(token="user", admin_token="root"), bearer("root"), [200, 200, 200, 200, 200]),
        (dict(admin_token="root"), [], [200, 200, 200, 200, 401]),
        (dict(admin_token="root"), bearer("root"), [200, 200, 200, 200, 200]),
        (dict(token="user", host="0.0.0.0"), [], [200, 401, 401, 401, 401]),
        (dict(token="user"), bearer("use"), [200, 401, 401, 401, 401]),
        (dict(token="user"), bearer("user1"), [200, 401, 401, 401, 401]),
        (dict(token="user"), bearer(""), [200, 401, 401, 401, 401]),
        (dict(token="user"), [(b"authorization", b"Basic user")], [200, 401, 401, 401, 401]),
        (dict(token="user"), [(b"authorization", b"user")], [200, 401, 401, 401, 401]),
        (dict(token="user"), [(b"authorization", b"bearer  user ")], [200, 200, 200, 200, 403]),
        (dict(token="user"), [(b"authorization", b"Bearer \xff\xfe")], [200, 401, 401, 401, 401]),
    ],
)
def test_which_token_opens_what(tokens, headers, expected):
    assert codes(an_app(metrics=Metrics(), **tokens), headers) == expected


def test_a_stranger_learns_neither_paths_nor_models_and_is_told_how_to_get_in():
    app = an_app(token="user", admin_token="root")
    answers = [
        call(app, "GET", path) for path in ("/v2/models/digits", "/v2/models/none", "/nothing", "/v2/repository/index")
    ]
    assert {answer.status for answer in answers} == {401} and len({answer.error for answer in answers}) == 1
    assert answers[0].headers[b"www-authenticate"] == b"Bearer" and "Authorization: Bearer" in answers[0].error


def test_the_body_is_not_read_without_a_token():
    assert call(an_app(token="user"), "POST", INFER, a_request()).read == 0


@pytest.mark.parametrize(
    "query", ["token=x", "access_token=x", "API_KEY=x", "a=b&authorization=Bearer", "k=user", "k=%75ser"]
)
def test_a_token_in_a_url_is_refused_even_with_the_right_header(query):
    app = an_app(token="user")
    answer = call(app, "POST", f"{INFER}?{query}", a_request(), bearer("user"))
    assert answer.status == 400 and "logs" in answer.error
    assert call(app, "POST", f"{INFER}?trace=1", a_request(), bearer("user")).status == 200


def test_tokens_are_compared_in_constant_time(monkeypatch):
    import jaxprop_serve.http1.access as access

    lengths = []

    def spy(given, expected):
        lengths.append((len(given), len(expected)))
        return given == expected

    monkeypatch.setattr(access.hmac, "compare_digest", spy)
    app = an_app(token="user", admin_token="root")
    for token in ("", "u", "user", "x" * 1000, "root"):
        call(app, "GET", "/v2", headers=bearer(token))
    assert len(lengths) == 10 and set(lengths) == {(32, 32)}  # digests, whatever the lengths of the tokens


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost:8000", 200), ("LOCALHOST", 200), ("127.0.0.1:1", 200), ("[::1]:8000", 200), ("localhost.", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.nip.io:8000", 403), ("", 400), (None, 400),
        ("0.0.0.0", 403), ("[::2]", 403), ("\xff", 403),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered_on_loopback(host, status):
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    answer = call(an_app(), "GET", "/v2", headers=headers, host=False)
    assert answer.status == status and (status == 200 or answer.error)


@pytest.mark.parametrize("hosts", [{}, {"allowed_hosts": ("models.example",), "host": "0.0.0.0", "token": "user"}])
@pytest.mark.parametrize("host", ["10.244.0.5:8000", "[fd00::5]:8000", "evil.example", "", None])
def test_what_is_open_to_everybody_is_answered_under_any_host(hosts, host):
    """Probes of kubelets and balancers name the address, or nothing; a model's routes stay closed to other names."""
    app, headers = an_app(**hosts), [] if host is None else [(b"host", host.encode())]
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert call(app, "GET", path, headers=headers, host=False).status == 200
        assert call(app, "GET", path, headers=[*headers, (b"origin", b"http://else.example")], host=False).status == 403
    for path in ("/v2/models/digits", "/v2", "/metrics", "/nothing"):
        assert call(app, "GET", path, headers=[*headers, *bearer("user")], host=False).status == (403 if host else 400)
    preflight = [*headers, (b"access-control-request-method", b"POST")]
    assert call(app, "OPTIONS", INFER, headers=preflight, host=False).status == (403 if host else 400)


def test_allowed_hosts():
    app = an_app(allowed_hosts=("models.example",))
    assert call(app, "GET", "/v2", headers=[(b"host", b"Models.Example:443")], host=False).status == 200
    assert call(app, "GET", "/v2").status == 200
    public = dict(host="0.0.0.0", token="user", headers=bearer("user"))
    anything = an_app(host="0.0.0.0", token="user")
    assert (
        call(anything, "GET", "/v2", headers=[(b"host", b"any.example"), *public["headers"]], host=False).status == 200
    )
    narrow = an_app(host="0.0.0.0", token="user", allowed_hosts=("models.example",))
    assert call(narrow, "GET", "/v2", headers=[(b"host", b"any.example"), *public["headers"]], host=False).status == 403


@pytest.mark.parametrize(
    "origin, status",
    [
        ("http://localhost:8000", 200), ("https://localhost:8000", 200),
        ("http://ui.example", 200), ("http://UI.example", 200),
        ("http://localhost:9000", 403), ("http://evil.example", 403), ("null", 403), ("", 403),
        ("http://ui.example.evil", 403),
    ],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(origin, status):
    app = an_app(allowed_origins=("http://ui.example",))
    answer = call(app, "POST", INFER, a_request(), [(b"origin", origin.encode())])
    assert answer.status == status
    assert answer.headers.get(b"access-control-allow-origin") == (origin.encode() if status == 200 else None)
    asked = [(b"origin", origin.encode()), (b"access-control-request-method", b"POST")]
    assert call(app, "OPTIONS", INFER, headers=asked).status == (204 if status == 200 else 403)


def test_a_preflight_is_told_nothing_of_the_ones_before():
    app = an_app()
    asked = [(b"origin", b"http://localhost:8000"), (b"access-control-request-method", b"POST")]
    first = call(app, "OPTIONS", INFER, headers=[*asked, (b"x-request-id", b"secret")]).headers
    second = call(app, "OPTIONS", INFER, headers=asked).headers
    assert first.pop(b"x-request-id") == b"secret" and first == second


def test_a_plugin_may_give_one_answer_again_and_again():
    answer = Reply(b"{}", [(b"x-mine", b"1")])

    async def handler(request):
        return answer

    app = an_app(routes=[Route("GET", "/mine", handler)])
    for _ in range(2):
        assert call(app, "GET", "/mine").headers == {b"x-mine": b"1", b"content-length": b"2"}
    assert answer.headers == [(b"x-mine", b"1")]


def test_what_is_remembered_of_clients_is_short():
    app, long = an_app(), b"localhost:" + b"8" * 10_000
    assert call(app, "GET", "/v2", headers=[(b"host", long)], host=False).status == 200
    assert not app.access._known_hosts
    headers = [(b"host", long), (b"origin", b"http://" + long)]
    assert call(app, "GET", "/v2", headers=headers, host=False).status == 403


@pytest.mark.parametrize(
    "name", [b"authorization", b"host", b"origin", b"content-length", b"inference-header-content-length"]
)
def test_a_header_that_decides_is_given_once(name):
    answer = call(an_app(), "GET", "/v2", headers=[(name, b"0"), (b"x", b"y"), (name, b"0")])
    assert answer.status == 400 and name.decode() in answer.error
    assert call(an_app(), "GET", "/v2", headers=[(b"accept", b"a"), (b"accept", b"b")]).status == 200


def test_routes_of_others_say_what_their_token_must_open():
    async def handler(request):
        return Reply(b"{}", [])

    routes = [Route("GET", "/a", handler, "admin"), Route("GET", "/b", handler)]
    app = an_app(token="user", admin_token="root", routes=routes)
    found = [call(app, "GET", path, headers=bearer(who)).status for path in ("/a", "/b") for who in ("user", "root")]
    assert found == [403, 200, 200, 200]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "127.0.0.1.nip.io", "example.org", ""])
def test_a_host_that_others_can_reach_needs_a_token(host):
    with pytest.raises(ValueError, match="set a token"):
        an_app(host=host)
    an_app(host=host, token="user")
    for loopback in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        an_app(host=loopback)
