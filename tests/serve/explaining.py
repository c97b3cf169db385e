"""What the tests of explanations share: an application as `jaxprop serve` makes it, and how it is asked why."""

import asyncio

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from jaxprop_serve.assembly import assemble
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.seen.metrics import Metrics
from jaxprop_serve.settings import Settings
from jaxprop_serve.why.explain import Explain
from tests.serve.doors import acall

DATATYPES = {"float32": "FP32", "float64": "FP64", "int32": "INT32"}


def serving(test, *places, models=None, explainers=None, **changed):
    """Run test(app) in a loop of its own; with `models` (store, runtimes) and `explainers` in place of the plugins."""

    async def main():
        settings = Settings(**({"max_batch": 1} | changed))
        if models is None:
            loaded, routes = assemble(settings, [str(place) for place in places])
        else:
            loaded, routes = Models(*models, settings), ()
        if explainers is not None:
            routes = Explain(explainers, settings).routes()
        await loaded.start()
        try:
            return await test(create_app(loaded, settings, Metrics(loaded), routes=routes))
        finally:
            await loaded.stop()

    return asyncio.run(asyncio.wait_for(main(), 120))


def body_of(inputs, outputs=(), **parameters):
    """A request in JSON."""
    tensors = [
        {"name": name, "shape": list(x.shape), "datatype": DATATYPES[x.dtype.name], "data": x.ravel()}
        for name, x in inputs.items()
    ]
    return {"inputs": tensors, "outputs": [{"name": name} for name in outputs], "parameters": parameters}


async def explain(app, model, inputs, outputs=(), **parameters):
    """The arrays of the answer, by name in its order; the refusal's text if it is refused."""
    inputs = inputs if isinstance(inputs, dict) else {"x": inputs}
    answer = await acall(app, "POST", f"/v2/models/{model}/explain", body_of(inputs, outputs, **parameters))
    if answer.status != 200:
        return answer.status, answer.error
    kinds = {datatype: name for name, datatype in DATATYPES.items()}
    return {
        item["name"]: np.array(item["data"], kinds[item["datatype"]]).reshape(item["shape"])
        for item in answer.json["outputs"]
    }


async def explain_binary(app, model, x, tensor=None, **parameters):
    """The same through tritonclient's own writer and reader, all in bytes."""
    given = InferInput("x", list(x.shape), DATATYPES[x.dtype.name])
    given.set_data_from_numpy(x)
    body, length = InferenceServerClient.generate_request_body(
        [given], outputs=[InferRequestedOutput(tensor)] if tensor else None, parameters=parameters
    )
    headers = [(b"inference-header-content-length", b"%d" % length)]
    answer = await acall(app, "POST", f"/v2/models/{model}/versions/1/explain", bytes(body), headers)
    assert answer.status == 200, answer.error
    size = int(answer.headers[b"inference-header-content-length"])
    found = InferenceServerClient.parse_response_body(answer.body, header_length=size)
    return {item["name"]: found.as_numpy(item["name"]) for item in found.get_response()["outputs"]}
