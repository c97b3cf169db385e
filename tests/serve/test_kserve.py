"""The KServe manifest of the documentation against the server that it starts: its flags, variables, paths and ports."""

from pathlib import Path

import pytest

from jaxprop_serve.http1.access import Access
from jaxprop_serve.http1.endpoints import ROUTES
from jaxprop_serve.http1.routes import Router
from jaxprop_serve.models.stores import FolderStore
from jaxprop_serve.settings import read
from tests.cli.commands import JAXPROP, did

yaml = pytest.importorskip("yaml")
MANIFEST = Path(__file__).parents[2] / "docs" / "serving" / "kserve.yaml"


@pytest.fixture(scope="module")
def manifest():
    """(secret, service, its one container)."""
    secret, service = yaml.safe_load_all(MANIFEST.read_text("utf-8"))
    (container,) = service["spec"]["predictor"]["containers"]
    return secret, service, container


def flags(container):
    """The command line without its program: its places, and its flags by setting."""
    assert Path(container["command"][0]).name == Path(JAXPROP).name and container["command"][1:] == ["serve"]
    rest = iter(container["args"][1:])
    return container["args"][0], {flag.removeprefix("--").replace("-", "_"): next(rest) for flag in rest}


def environment(container, secret):
    """The container's variables, with the secret's values where it refers to them."""
    found = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference:
            assert reference["name"] == secret["metadata"]["name"]
        found[variable["name"]] = secret["stringData"][reference["key"]] if reference else variable["value"]
    return found


def test_it_is_what_kserve_takes(manifest):
    secret, service, container = manifest
    assert (secret["apiVersion"], secret["kind"]) == ("v1", "Secret")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert container["name"] == "kserve-container" and "STORAGE_URI" in environment(container, secret)
    predictor = service["spec"]["predictor"]
    assert 1 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    assert predictor["enableServiceLinks"] is False


def test_its_settings_are_the_servers(manifest):
    """Flags and variables are read as the server reads them; tokens come from the Secret and open what they should."""
    secret, service, container = manifest
    place, given = flags(container)
    settings = read(given, environment=environment(container, secret))
    assert settings.host == "0.0.0.0" and settings.grpc_port is None
    assert settings.max_batch == service["spec"]["predictor"]["scaleTarget"]
    access = Access(settings)
    access.check_token({b"authorization": b"Bearer " + secret["stringData"]["token"].encode()}, "user")
    access.check_token({b"authorization": b"Bearer " + secret["stringData"]["admin-token"].encode()}, "admin")
    access.check_source({"query_string": b""}, {b"host": b"digits.default.example.com"}, "user")
    ((name, folder),) = FolderStore([place]).places
    assert name == service["metadata"]["name"] and str(folder) == "/mnt/models"
    help_text = did("serve", "--help").out
    assert all(f"--{flag.replace('_', '-')}" in help_text for flag in given)


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_its_probes_ask_what_is_answered_without_a_token(manifest, probe):
    _, _, container = manifest
    asked, (port,) = container[probe]["httpGet"], container["ports"]
    route = Router(ROUTES).find("GET", asked["path"].encode()).route
    assert route.level == "open" and route.handler.__name__ in ("ready", "live")
    assert str(asked["port"]) == str(port["containerPort"]) == flags(container)[1]["port"]


def test_what_kubernetes_says_of_a_service_would_be_refused():
    """Why enableServiceLinks is off."""
    with pytest.raises(ValueError, match="JAXPROP_SERVICE_HOST"):
        read({}, environment={"JAXPROP_SERVICE_HOST": "10.0.0.1"})
    with pytest.raises(ValueError, match="port"):
        read({}, environment={"JAXPROP_PORT": "tcp://10.0.0.1:80"})
