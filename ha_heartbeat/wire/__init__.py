"""Bytes to messages and back: frames, limits, versions. Knows the core's types and nothing else."""
