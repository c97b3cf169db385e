"""The same protocol over gRPC."""
