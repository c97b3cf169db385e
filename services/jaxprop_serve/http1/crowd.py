"""The connections of each client, and whose gives way where there is no room for another's.

One client may have all that there are, until another comes: then a connection of the client with the most is closed,
one on which no answer is under way, silent ones first. So nobody keeps others out, health checks included.
"""

from typing import Any

_SILENCE, _HEADER, _BODY = range(3)  # in this order connections give way


class Crowd:
    """Connections by client; each has `peer`, `phase`, `started`, `due`, `transport` and `give_way`.

    Args:
        most: how many there may be, all clients together.
    """

    def __init__(self, most: int):
        self._most, self._count = most, 0
        self._by_client: dict[str, dict[Any, None]] = {}  # oldest first, which decides where `due` is the same

    def enter(self, one: Any) -> bool:
        """Count a connection, and return whether there is room for it, if need be by making it."""
        own = self._by_client.setdefault(one.peer, {})
        if one in own:  # since its handshake
            return True
        own[one] = None
        self._count += 1
        if self._count <= self._most:
            return True
        largest = max(self._by_client.values(), key=len)
        if len(largest) <= len(own):
            return False
        giving = min((other for other in largest if other.phase != "answer"), key=_turn, default=None)
        if giving is None:
            return False
        self.leave(giving)
        giving.give_way()
        return True

    def leave(self, one: Any) -> None:
        """Count a connection no longer."""
        own = self._by_client.get(one.peer)
        if own is not None and one in own:
            del own[one]
            self._count -= 1
            if not own:
                del self._by_client[one.peer]


def _turn(one: Any) -> tuple[int, float]:
    phase = _BODY if one.phase == "body" else _HEADER if one.started else _SILENCE
    return phase, one.due or 0.0
