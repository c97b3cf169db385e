"""What a request can be refused for: an HTTP status, the same as a gRPC status, and one sentence."""

_GRPC = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_LIMITS = {413: "body", 408: "timeout", 429: "queue", 401: "auth", 403: "auth", 504: "deadline"}


class ServeError(Exception):
    """A refusal: `status` for HTTP, `grpc` for gRPC, `text` for the client, `retry_after` seconds where it helps.

    >>> ServeError(404, "unknown model 'm'").grpc
    'NOT_FOUND'
    """

    def __init__(self, status: int, text: str, retry_after: float | None = None):
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after

    @property
    def grpc(self) -> str:
        """The name of the gRPC status code."""
        return _GRPC.get(self.status, "INTERNAL")

    @property
    def limit(self) -> str | None:
        """The limit of this server that the request met, by the name that the metrics count; None if it met none."""
        return _LIMITS.get(self.status)
