"""The Open Inference Protocol: its requests and answers, and the tensors in them."""
