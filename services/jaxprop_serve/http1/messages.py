"""What requests and answers hold in JSON, as types: for the server's own description (openapi.py), from which clients
are made. The readers of requests are in `protocol/`; a test holds the two against each other.
"""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jaxprop_serve.protocol.by_column import Cell
from jaxprop_serve.protocol.checks import Parameters
from jaxprop_serve.protocol.tensors import DATATYPES

Datatype = Annotated[str, Meta(extra_json_schema={"enum": list(DATATYPES)})]
Size = Annotated[int, Meta(ge=0)]


class Error(TypedDict):
    """What was found, what was expected, and what to do."""

    error: str


# Requests.
class InferInput(msgspec.Struct):
    """A tensor: `data` in JSON, or `parameters.binary_data_size` bytes behind the JSON."""

    name: str
    shape: Annotated[list[Size], Meta(min_length=1, description="The rows first.")]
    datatype: Datatype
    parameters: Parameters | None = None
    data: (
        Annotated[list[Any], Meta(description="Row-major, flat or nested as the shape says; not of FP16 and BF16.")]
        | UnsetType
    ) = UNSET


class InferOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is wanted; as bytes if `parameters.binary_data` is true."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    """Rows for a model, of each of its inputs or, where it was trained on a table, of each column.

    Parameters that mean something: `binary_data_output`, `timeout` (microseconds) and, for `explain`, `explainer` and
    what that explainer takes.
    """

    inputs: Annotated[list[InferInput], Meta(min_length=1)]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[InferOutput] | None = None


Rows = Annotated[
    list[list[Any] | dict[str, Cell]], Meta(min_length=1, description="Each a list of values, or cells by column name.")
]


class RowsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rows as people have them."""

    rows: Rows


PredictRequest = RowsRequest | Rows


class IndexRequest(msgspec.Struct):
    """Which models to list."""

    ready: Annotated[bool, Meta(description="Only those that answer.")] = False


class LoadRequest(msgspec.Struct):
    """Nothing: a model is what its folder says."""

    parameters: Annotated[dict[str, Any], Meta(max_length=0)] | None = None


class UnloadRequest(msgspec.Struct):
    """Nothing that matters here; Triton's clients send `unload_dependents`."""

    parameters: Any = None


# Answers.
class ServerMetadata(TypedDict):
    """What this server is, and what it knows beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class Live(TypedDict):
    """The process answers."""

    live: bool


class Ready(TypedDict):
    """Whether requests should come here."""

    ready: bool


class ModelReady(TypedDict):
    """Whether a model answers."""

    name: str
    ready: bool


class Tensor(TypedDict):
    """A tensor that a model takes or gives; -1 stands for the rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class Column(TypedDict):
    """A column of the table that a model was trained on, and the features of its input that are made of it."""

    name: str
    kind: str
    values: NotRequired[list[str]]
    features: list[str]


class ModelMetadata(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    columns: NotRequired[list[Column]]


class ConfigTensor(TypedDict):
    """A tensor in Triton's words, without the rows."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(TypedDict):
    """A part of Triton's ModelConfig."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]
    dynamic_batching: dict[str, int] | None
    parameters: dict[str, dict[str, str]]


class Spent(TypedDict):
    """How often, and how many nanoseconds in all."""

    count: Size
    ns: Size


class InferStatistics(TypedDict):
    """Times of requests (`success`, `fail`, `queue`) and of batches."""

    success: Spent
    fail: Spent
    queue: Spent
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent


class BatchStatistics(TypedDict):
    """Times of the batches of one size."""

    batch_size: Size
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent


class Statistics(TypedDict):
    """Counts of one version of a model since the server started."""

    name: str
    version: str
    last_inference: Size
    inference_count: Size
    execution_count: Size
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]


class ModelStatistics(TypedDict):
    """Counts of one version, or of all that are ready."""

    model_stats: list[Statistics]


class InferTensor(TypedDict):
    """An output: its values in `data`, or in `parameters.binary_data_size` bytes behind the JSON."""

    name: str
    datatype: Datatype
    shape: list[Size]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Size]]


class InferAnswer(TypedDict):
    """The outputs that were wanted."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[InferTensor]


class Prediction(TypedDict):
    """Rows of outputs, under `rows` or, where there are several outputs, under their names; and what they mean."""

    model: str
    version: str
    rows: NotRequired[list[Any]]
    labels: NotRequired[list[str]]
    probabilities: NotRequired[list[float]]
    unknown: NotRequired[dict[str, list[str]]]


class IndexEntry(TypedDict):
    """The state of one version of a model."""

    name: str
    version: str
    state: Annotated[
        str, Meta(extra_json_schema={"enum": ["UNAVAILABLE", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED"]})
    ]
    reason: str


class Nothing(TypedDict):
    """It is done."""


Hint = TypedDict("Hint", {"server": str, "try": str})
