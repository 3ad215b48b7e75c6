"""Threads and arguments for `baselines.pair_kernels`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines import pair_kernels
from baselines.pair_plan import L1_EPS, SOFTMAX_EPS, PairPlan

MODES = {"softmax": (0, SOFTMAX_EPS), "l1": (1, L1_EPS), "none": (2, 0.0)}


def _parts(plan: PairPlan, n_parts: int) -> list[np.ndarray]:
    """Pairs in parts of similar size that share no output row."""
    table = plan.table.numpy()
    if not len(table):
        return []
    load = np.cumsum(table[:, 3])
    cuts = np.searchsorted(load, np.arange(1, n_parts) * load[-1] / n_parts)
    return np.split(table, np.searchsorted(table[:, 2], table[cuts, 2]))


def _inputs(plan: PairPlan, reweight: str, tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """What both kernels take after the pairs."""
    arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
    source, target, vector, offset, first, weight, bias, second = arrays
    n_rows, n_steps = source.shape[:2]
    order = np.empty((n_rows, 0), np.int64)
    if plan.other_steps_only:
        order = np.tile(np.arange(n_steps), (n_rows, 1))
        order = order if plan.order is None else plan.order.numpy()
    scalars = tuple(np.concatenate([offset, first, second]))
    layer = (np.ascontiguousarray(weight.T), weight, bias, vector, scalars)
    return order, *MODES[reweight], source, target, layer


def _run(work: Callable[[np.ndarray], Any], plan: PairPlan) -> list[Any]:
    """Do the work on parts of the pairs in as many threads as torch has; results in order."""
    threads = torch.get_num_threads()
    parts = _parts(plan, threads)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def compiled_forward(
    plan: PairPlan, reweight: str, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Pooled hidden values and summed weights; arguments of `PooledHidden.apply`."""
    target, vector = tensors[1], tensors[2]
    pooled = target.new_zeros(plan.n_out, target.shape[1], len(vector))
    totals = target.new_zeros(plan.n_out, target.shape[1])
    inputs, out = _inputs(plan, reweight, tensors), (pooled.numpy(), totals.numpy())
    _run(lambda pairs: pair_kernels.pool_forward(pairs, *inputs, *out), plan)
    return pooled, totals


def compiled_backward(
    plan: PairPlan, reweight: str, tensors: tuple[Tensor, ...], by_out: tuple[Tensor, Tensor]
) -> list[Tensor]:
    """Derivatives by the tensors, from those by the results of `compiled_forward`."""
    inputs, out = _inputs(plan, reweight, tensors), tuple(x.contiguous().numpy() for x in by_out)
    weight = tensors[5]
    sizes = (tuple(weight.shape), len(weight), len(weight), 3)

    def work(pairs: np.ndarray) -> tuple[np.ndarray, ...]:
        by_inputs = tuple(np.zeros_like(x) for x in inputs[3:5])
        by_layer = tuple(np.zeros(size) for size in sizes)
        pair_kernels.pool_backward(pairs, *inputs, out, by_inputs, by_layer)
        return (*by_inputs, *by_layer)

    sums = _run(work, plan)
    if not sums:
        return [torch.zeros_like(tensor) for tensor in tensors]
    grads = [torch.from_numpy(sum(part)).to(weight) for part in zip(*sums, strict=True)]
    source, target, by_weight, by_bias, vector, scalars = grads
    offset, first, second = scalars.split(1)
    return [source, target, vector, offset, first, by_weight, by_bias, second]
