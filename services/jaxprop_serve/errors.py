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
_LIMITS = {413: "body", 408: "timeout", 429: "queue", 431: "header", 401: "auth", 403: "auth", 504: "deadline"}


class ServeError(Exception):
    """A refusal: `status` for HTTP, `grpc` for gRPC, `text` for the client, `retry_after` seconds where it helps.

    `limit` is the limit of this server that the request met, by the name that the metrics count; None if it met none.

    >>> ServeError(404, "unknown model 'm'").grpc
    'NOT_FOUND'
    """

    def __init__(self, status: int, text: str, retry_after: float | None = None, limit: str | None = None):
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after
        self.limit = limit or _LIMITS.get(status)

    @property
    def grpc(self) -> str:
        """The name of the gRPC status code."""
        return _GRPC.get(self.status, "INTERNAL")
