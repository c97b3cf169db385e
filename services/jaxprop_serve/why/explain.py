"""`POST /v2/models/{model}[/versions/{version}]/explain`: why a model answers as it does.

The request is infer's. Its `parameters` name the `explainer` (by default the first that the settings allow), all others
are that explainer's own; the first of its `outputs` (by default the model's first) is what is explained. The answer is
infer's too, and its outputs are what the explainer found.

Explanations are computed in threads of their own: at most `explain_concurrency` at once, of `explain_limit` rows each;
whoever comes while all are busy is told to come again. What they need is compiled there, when it is first asked for,
and counted apart. What nobody waits for any more is given up at the next execution.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from jaxprop.errors import JaxpropError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1 import messages
from jaxprop_serve.http1.endpoints import decode_aside
from jaxprop_serve.http1.request import Request
from jaxprop_serve.http1.routes import Reply, Route
from jaxprop_serve.models.lifecycle import Served
from jaxprop_serve.models.runtimes import NAMES, Arrays, Executable, Function, Loaded, compiler
from jaxprop_serve.models.statistics import Statistics
from jaxprop_serve.protocol.answers import LARGE_ANSWER, Piece, check_answer
from jaxprop_serve.protocol.aside import LARGE, begin
from jaxprop_serve.protocol.by_column import features
from jaxprop_serve.protocol.checks import Wanted
from jaxprop_serve.protocol.data import BINARY_ONLY
from jaxprop_serve.protocol.requests import InferRequest, decode, encode, encode_large
from jaxprop_serve.protocol.tensors import TensorSpec
from jaxprop_serve.settings import Settings

Compile = Callable[..., Callable[[Arrays], Arrays]]
_OURS = ("explainer", "binary_data_output", "timeout")


class Question(NamedTuple):
    """What an explainer is asked: validated inputs `[rows, ...]`, the output to explain, and its own parameters.

    Who knows the tensors of the answer before they are computed says so to `check_answer`; it is asked afterwards too.
    """

    inputs: Arrays
    output: TensorSpec
    parameters: dict[str, str | int | float | bool]
    check_answer: Callable[[Iterable[TensorSpec]], None]  # ServeError 400 for an answer of these that is too large


class Explainer(Protocol):
    """Called once for each version of a model that it is asked about; what it returns answers the questions."""

    def __call__(self, loaded: Loaded, compile: Compile) -> Callable[[Question], Arrays]:
        """explain(question) -> outputs by name, numpy arrays; in a thread beside the event loop, several at once.

        `compile(g, *more)` makes a function of numpy arrays, with any number of rows, of a JAX function
        g(inputs by name, params) -> outputs by name; `more` are inputs beside the model's. `loaded.f` is such a g.
        """
        ...


class Explain:
    """The routes, with the threads behind them.

    Args:
        explainers: by name, see api.py; the first is the default.
        settings: explain_limit, explain_concurrency, max_json_depth.
    """

    def __init__(self, explainers: Mapping[str, Explainer], settings: Settings):
        self.explainers, self.settings = explainers, settings
        self._threads = ThreadPoolExecutor(settings.explain_concurrency, "explain")
        self._free = threading.BoundedSemaphore(settings.explain_concurrency)
        self._lock = threading.Lock()
        self._made: WeakKeyDictionary[Served, dict[str, Callable[[Question], Arrays]]] = WeakKeyDictionary()
        self._work = threading.local()

    def routes(self) -> list[Route]:
        """Return what to give to create_app."""
        paths = "/v2/models/{model}/explain", "/v2/models/{model}/versions/{version}/explain"
        bodies = {"takes": messages.InferRequest, "gives": messages.InferAnswer}
        return [Route("POST", path, self.answer, **bodies) for path in paths]

    async def answer(self, request: Request, model: str, version: str | None = None) -> Reply:
        """`POST /v2/models/{model}[/versions/{version}]/explain`: why the model answers these rows as it does.

        Raises ServeError 429 while all threads are busy, 501 where there is nothing that could explain.
        """
        settings = self.settings
        with request.models.pin(model, version) as served:
            request.model, request.version = served.name, served.version
            self._take()  # before its body is read ...
            self._free.release()
            body = await request.body()
            if len(body) > LARGE:
                asked = await decode_aside(request, body, served, settings.explain_limit)
            else:
                asked = decode(
                    request.headers, body, served.signature, served.name,
                    max_rows=settings.explain_limit, max_depth=settings.max_json_depth,
                )  # fmt: skip
            name = self._chosen(asked, served.name)
            if served.signature.table is not None:
                asked.inputs = await features(asked.inputs, served.signature, served.name)
            deadline = request.deadline(asked.timeout_us)
            if deadline is not None and time.monotonic() >= deadline:
                raise _late(served.name)
            self._take()  # ... and once it is whole: a slow client keeps nobody out
            given_up = threading.Event()
            work = self._threads.submit(self._explain, served, name, asked, given_up)
            work.add_done_callback(lambda _: self._free.release())
            request.cancel_if_gone()
            try:
                async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                    return Reply(*await asyncio.wrap_future(work))
            except TimeoutError:
                raise _late(served.name) from None
            finally:
                given_up.set()

    def _take(self) -> None:
        if not self._free.acquire(blocking=False):
            most = self.settings.explain_concurrency
            text = f"{most} explanations are being computed, the most at once (explain_concurrency); try again later"
            raise ServeError(429, text, retry_after=1.0, limit="explain")

    def _chosen(self, asked: InferRequest, model: str) -> str:
        """Return the name of the explainer that is asked."""
        if not self.explainers:
            raise ServeError(501, f"model '{model}' cannot be explained: this server's settings allow no explainers")
        name = asked.parameters.get("explainer", next(iter(self.explainers)))
        if name not in self.explainers:
            known = ", ".join(self.explainers)
            raise ServeError(400, f"model '{model}': unknown explainer {str(name)[:80]!r}, this server has {known}")
        return str(name)

    # In a thread.
    def _explain(
        self, served: Served, name: str, asked: InferRequest, given_up: threading.Event
    ) -> tuple[bytes | list[Piece], list[tuple[bytes, bytes]]]:
        """Return the answer's body and headers."""
        self._work.given_up = given_up
        begin(given_up)
        wanted, limit = asked.outputs[0], self.settings.max_answer_bytes

        def check(specs: Iterable[TensorSpec]) -> None:
            check_answer(asked.rows, sum(spec.row_bytes(wanted.binary) for spec in specs), limit, served.name)

        output = next(spec for spec in served.signature.outputs if spec.name == wanted.name)
        parameters = {key: value for key, value in asked.parameters.items() if key not in _OURS}
        try:
            found = self._explainer(served, name)(Question(asked.inputs, output, parameters, check))
        except (ServeError, JaxpropError) as error:
            status = error.status if isinstance(error, ServeError) else 501
            raise ServeError(status, f"model '{served.name}', explainer '{name}': {error}") from None
        outputs = tuple(Wanted(key, wanted.binary, NAMES[array.dtype.name]) for key, array in found.items())
        for key, binary, datatype in outputs:
            if datatype in BINARY_ONLY and not binary:
                raise ServeError(400, f"output '{key}' of model '{served.name}' is {datatype}: ask for binary data")
        specs = [TensorSpec(one.name, one.datatype, found[one.name].shape) for one in outputs]
        check(specs)
        asked = replace(asked, outputs=outputs)
        if asked.rows * sum(spec.row_bytes(binary=False) for spec in specs) > LARGE_ANSWER:
            return encode_large(asked, found, served.name, served.version, limit)
        return encode(asked, found, served.name, served.version)

    def _explainer(self, served: Served, name: str) -> Callable[[Question], Arrays]:
        """Return the explainer of one version. It is made once, and goes when the version goes."""
        with self._lock:
            made = self._made.setdefault(served, {})
            if name not in made:
                made[name] = self.explainers[name](served.loaded, self._compile(served.loaded, served.statistics))
            return made[name]

    def _compile(self, loaded: Loaded, statistics: Statistics) -> Compile:
        """Return what a plugin gets as `compile`."""

        def compile(g: Function | None, *more: TensorSpec) -> Bucketed:
            if g is None or loaded.params is None:
                raise ServeError(501, "this model cannot be explained: its runtime gives no JAX function of it")
            signature = replace(loaded.signature, inputs=(*loaded.signature.inputs, *more))
            return Bucketed(compiler(g, loaded.params, signature), self.settings.explain_limit, statistics, self._check)

        return compile

    def _check(self) -> None:
        if self._work.given_up.is_set():
            raise ServeError(499, "nobody waits for it any more")


class Bucketed:
    """Executables as one function of any number of rows: 1, 2, 4, ... `largest` at once, each made when first needed.

    Args:
        compile: makes the executable for a number of rows.
        largest: the most rows of one execution; more are several.
        statistics: where `explain_compile_count` is counted.
        check: called before each execution; what it raises ends the work.
    """

    def __init__(
        self, compile: Callable[[int], Executable], largest: int, statistics: Statistics, check: Callable[[], None]
    ):  # fmt: skip
        self.compile, self.largest, self.statistics, self.check = compile, largest, statistics, check
        self._executables: dict[int, Executable] = {}
        self._lock = threading.Lock()

    def __call__(self, inputs: Arrays) -> Arrays:
        """Return outputs by name for arrays `[rows, ...]` by name."""
        rows, most = len(next(iter(inputs.values()))), self.largest
        parts = [self._part({n: a[i : i + most] for n, a in inputs.items()}) for i in range(0, rows, most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _part(self, inputs: Arrays) -> Arrays:
        self.check()
        rows = len(next(iter(inputs.values())))
        bucket = min(1 << (rows - 1).bit_length(), self.largest)
        padded = {name: array[np.arange(bucket) % rows] for name, array in inputs.items()}
        return {name: y[:rows] for name, y in self._executable(bucket)(padded).items()}

    def _executable(self, bucket: int) -> Executable:
        with self._lock:  # two who need the same wait for one compilation
            if bucket not in self._executables:
                self._executables[bucket] = self.compile(bucket)
                self.statistics.explain_compile_count += 1
            return self._executables[bucket]


def _late(model: str) -> ServeError:
    return ServeError(504, f"model '{model}': the request's time was over before it was explained")
