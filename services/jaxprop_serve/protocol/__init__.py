"""The Open Inference Protocol: its endpoints, its requests and answers, its tensors."""
