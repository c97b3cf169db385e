"""A model server asked over HTTP, for `jaxprop predict --url`: the standard library is enough for that."""

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from jaxprop import data as datasets
from jaxprop.cli.runs import Rows, part_of, slice_rows
from jaxprop.errors import DataError, JaxpropError, ModelError

TIMEOUT_S = 60
_STRANGER = "is it a server of jaxprop?"


def predict(url: str, model: str, x: np.ndarray) -> dict[str, Any]:
    """`POST /predict/{model}`: `rows`, with `labels` and `probabilities` where the model knows its classes."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(
            f"rows for {url} hold NaN or infinity, which cannot be sent as JSON: predict them without --url"
        )
    found = ask(url, f"/predict/{quote(model, safe='')}", {"rows": x.tolist()})
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list) or len(found["rows"]) != len(x):
        raise ModelError(f"{url} did not answer with {len(x)} rows: {_STRANGER}")
    return found


def model_name(url: str, asked: str | None, folder: str) -> str:
    """The name asked for, or the folder's if the server knows it, or that of the server's only model."""
    if asked is not None:
        return asked
    try:
        known = sorted({entry["name"] for entry in ask(url, "/v2/repository/index", {"ready": True})})
    except (TypeError, KeyError):
        raise ModelError(f"{url} did not answer with a list of models: {_STRANGER}") from None
    if folder in known:
        return folder
    if len(known) == 1:
        return known[0]
    offered = f"it serves {', '.join(known)}" if known else "no model is ready there"
    raise ModelError(f"{url} has no model {folder!r}: {offered}; choose one with --model")


def ask(url: str, path: str, body: object) -> Any:
    """POST JSON and return the JSON answer; a refusal is a JaxpropError with the server's own words."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise JaxpropError(f"--url: found {url!r}, expected something like http://127.0.0.1:8000")
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("JAXPROP_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        hint = "; `jaxprop predict` sends the one in JAXPROP_TOKEN" if error.code == 401 else ""
        raise ModelError(f"{url} answered {error.code}: {_reason(error)}{hint}") from None
    except http.client.HTTPException:
        raise JaxpropError(f"{url} does not speak HTTP (gRPC has a port of its own): {_STRANGER}") from None
    except (urllib.error.URLError, OSError) as error:
        why = getattr(error, "reason", error)
        why = getattr(why, "strerror", None) or why
        raise JaxpropError(f"nobody answers at {url} ({why}): start a server with `jaxprop serve RUN`") from None
    except ValueError:
        raise ModelError(f"{url} does not answer in JSON: {_STRANGER}") from None


def rows_without_a_run(data: str, chosen: str, part: str) -> tuple[Rows, tuple[str, ...] | None]:
    """Rows of data that says by itself what it is, and its classes."""
    found = datasets.load(data)
    x, targets, source = part_of(found, part)
    numbers = slice_rows(chosen, len(x))
    picked = np.asarray(numbers)
    return Rows(numbers, x[picked], targets[picked], source), found.classes


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
