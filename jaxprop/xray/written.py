"""A report as plain data, for JSON, and back."""

import math
from dataclasses import asdict, fields
from functools import cache
from importlib import metadata
from typing import Any

import jax
import numpy as np

from jaxprop.errors import JaxpropError
from jaxprop.xray import measures
from jaxprop.xray.places import Line
from jaxprop.xray.program import Reading
from jaxprop.xray.sites import Site

FORMAT, VERSION = "jaxprop.xray.report", 1


def made_with(reading: Reading) -> dict[str, str]:
    """Say with what a reading was made: versions, platform and device."""
    found = {
        device for leaf in jax.tree.leaves(reading.values) if isinstance(leaf, jax.Array) for device in leaf.devices()
    }
    device = min(found, key=lambda device: device.id, default=jax.devices()[0])
    return {
        "jaxprop": _version(),
        "jax": jax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
    }


@cache
def _version() -> str:
    """From files, which takes as long as a small report."""
    return metadata.version("jaxprop-nn")


def to_json(reading: Reading, made: dict[str, str], scope: str) -> dict[str, Any]:
    """Return the measures of a reading as strict JSON; of what f returned, a value that is one number."""
    value = number_of(reading.value)
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_with": made,
        "scope": scope,
        "light": reading.light,
        "measures": list(measures.names(reading.light)),
        "value": None if value is None else plain(value),
        "sites": [
            asdict(site) | {"values": _all(reading.values, site), "errors": _all(reading.errors, site)}
            for site in reading.sites
        ],
    }


def from_json(data: dict[str, Any]) -> Reading:
    """Make a reading again of what `to_json` gave."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = f"a dict with {sorted(data)[:5]}" if isinstance(data, dict) else type(data).__name__
        raise JaxpropError(f"Report.from_json: expected what report.json() returns, read by json.load; found {found}")
    if data["version"] != VERSION or data["measures"] != list(measures.names(data["light"])):
        raise JaxpropError(
            f"Report.from_json: expected version {VERSION} with the measures {measures.names(data['light'])}, found "
            f"version {data['version']} with {data['measures']}; it was written by jaxprop "
            f"{data['made_with']['jaxprop']}: use that one, or make the report anew"
        )
    known = {field.name for field in fields(Site)}
    sites, values, errors = [], {}, {}
    for saved in data["sites"]:
        site = Site(**{name: _tupled(value) for name, value in saved.items() if name in known})
        sites.append(site)
        for into, measured in ((values, saved["values"]), (errors, saved["errors"])):
            if measured is not None:
                into[site.path] = tuple(None if each is None else _numbers(each) for each in measured)
    value = None if data["value"] is None else float(data["value"])
    return Reading(value, None, None, values, errors, tuple(sites), data["light"])


def number_of(value: Any) -> float | None:
    """Return what a function returned, where it is one real number."""
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, float)) or np.shape(value) != ():
        return None
    return float(np.asarray(value)) if np.isrealobj(np.asarray(value)) else None


def _all(measured: dict[Any, Any], site: Site) -> Any:
    outputs = measured.get(site.path)
    return None if outputs is None else [None if each is None else plain(each) for each in outputs]


def plain(numbers: Any) -> Any:
    """Return a number, or nested lists of numbers, as strict JSON has it: NaN and infinity are strings."""
    array = np.asarray(numbers)
    if array.ndim:
        return [plain(each) for each in array]
    number = float(array)
    return number if math.isfinite(number) else str(number)


def _numbers(nested: Any) -> np.ndarray:
    return np.array(nested, dtype=object).astype(np.float64)


def _tupled(value: Any) -> Any:
    if isinstance(value, dict):
        return Line(**value)
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
