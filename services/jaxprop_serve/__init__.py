"""A model server for jaxprop: the Open Inference Protocol over HTTP and gRPC."""
