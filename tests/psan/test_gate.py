"""The gate in plain operations against its formula; `test_temporal.py` has the compiled one."""

import pytest
import torch
from torch import Tensor

from psan.gate import gated


def arguments(dtype: torch.dtype, width: int, columns: int) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (width, columns), (width, 2, columns), (2, 2, width, 2), (2, 2, width)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def formula(x: Tensor, o: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One output at a time."""
    rows = []
    for i in range(len(x)):
        directions = []
        for k in range(2):
            a, b = torch.cat([x, o[:, k]])[2 * i : 2 * i + 2]
            s, v = (
                torch.sigmoid(weight[k, g, i, 0] * a + weight[k, g, i, 1] * b + bias[k, g, i])
                for g in range(2)
            )
            directions.append(s * o[i, k] + (1 - s) * v)
        rows.append(torch.stack(directions))
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values(dtype: torch.dtype) -> None:
    given = arguments(dtype, 6, 7)
    torch.testing.assert_close(gated(*given), formula(*given), rtol=1e-5, atol=1e-5)


def test_large_inputs_saturate() -> None:
    x, o, weight, bias = arguments(torch.float32, 4, 5)
    big = [1e4 * x, o, 1e4 * weight, bias]
    out = gated(*big)
    assert out.isfinite().all()
    torch.testing.assert_close(out, formula(*big), rtol=1e-5, atol=1e-5)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x \(3, 5\) needs an even first size"):
        gated(*arguments(torch.float32, 3, 5))
