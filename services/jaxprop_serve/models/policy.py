"""Which versions of a model are served: the setting `versions`."""

from collections.abc import Iterable
from typing import Any


def chosen(policy: str, versions: Iterable[str]) -> list[str]:
    """Return the versions to serve, oldest first, of those that there are.

    >>> chosen("all", ["1", "2", "10"]), chosen("latest", ["1", "2", "10"]), chosen("latest:2", ["1", "2", "10"])
    (['1', '2', '10'], ['10'], ['2', '10'])
    >>> chosen("1,3,10", ["1", "2", "10"])
    ['1', '10']
    """
    found = sorted(versions, key=int)
    if policy == "all":
        return found
    kind, _, count = policy.partition(":")
    if kind == "latest":
        return found[-int(count or 1) :]
    wanted = set(policy.split(","))
    return [version for version in found if version in wanted]


def described(policy: str) -> dict[str, Any]:
    """Return the policy as Triton's ModelConfig has it.

    >>> described("all"), described("latest"), described("1,3")
    ({'all': {}}, {'latest': {'num_versions': 1}}, {'specific': {'versions': [1, 3]}})
    """
    if policy == "all":
        return {"all": {}}
    kind, _, count = policy.partition(":")
    if kind == "latest":
        return {"latest": {"num_versions": int(count or 1)}}
    return {"specific": {"versions": [int(version) for version in policy.split(",")]}}
