"""The rooms of the server see each other one way only, as services/README.md says."""

from pathlib import Path

import jaxprop_serve
from tests.test_structure import imported

SERVE = Path(jaxprop_serve.__file__).parent
FLOORS = [
    {"__init__", "errors"},
    {"settings"},
    {"certificates", "sockets", "systemd"},
    {"protocol"},
    {"models"},
    {"seen"},
    {"http1"},
    {"why", "grpc_door"},
    {"plugins", "api"},
    {"renewal", "jobs"},
    {"server", "workers"},
    {"assembly"},
    {"command", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(name):
    """The room of jaxprop_serve.http1.access is http1."""
    return name.split(".")[1] if "." in name else "__init__"


def test_a_room_imports_its_own_floor_or_one_further_up():
    seen = set()
    for path in SERVE.rglob("*.py"):
        parts = path.relative_to(SERVE.parent).with_suffix("").parts
        room = room_of(".".join(parts))
        for name in imported(path.read_text("utf-8"), ".".join(parts), path.name == "__init__.py"):
            if not name.startswith("jaxprop_serve"):
                continue
            seen.add((room, room_of(name)))
            as_a_plugin = parts[1:] == ("why", "gradient") and room_of(name) == "api"
            assert FLOOR[room_of(name)] <= FLOOR[room] or as_a_plugin, f"{'.'.join(parts)} imports {name}"
    assert ("http1", "protocol") in seen and {room for room, _ in seen} <= set(FLOOR)
