"""Samplers: vLLM, and a small transformers one behind the same protocol."""
