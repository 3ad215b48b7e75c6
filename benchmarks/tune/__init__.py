"""Chooses a method's hyper-parameters by their validation error; `python -m benchmarks.tune`."""
