"""A layer over sensors in compiled loops against the plain operations of torch."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from psan.layers import SpatialAttention
from psan.spatial import related_sensors

STEPS, SAMPLES = 2, 3


def layer(width: int, heads: int, dropout: float = 0.0) -> SpatialAttention:
    """No parameter has its first value: scales would be 1, shifts and biases 0."""
    torch.manual_seed(0)
    made = SpatialAttention(width, heads, dropout)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return made


def inputs(sensors: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = (STEPS, SAMPLES, sensors, width), (sensors, sensors)
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def gradients(layer: SpatialAttention, given: list[Tensor]) -> dict[str, Tensor]:
    named = dict(layer.named_parameters()) | dict(zip(("x", "similarity"), given, strict=True))
    return {name: p.grad.double() for name, p in named.items()}


@pytest.mark.parametrize(
    ("width", "heads", "sensors"),
    [(8, 2, 5), (6, 3, 2), (20, 2, 37), (64, 4, 50)],
    ids=["small", "two sensors", "padded", "the paper's"],
)
@pytest.mark.parametrize("threads", [1, 4], ids="{} threads".format)
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, width: int, heads: int, sensors: int, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours, plain = layer(width, heads), layer(width, heads).double()
    given, exact = inputs(sensors, width), inputs(sensors, width, torch.float64)
    out, expected = ours(*given), plain(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    got = gradients(ours, given)
    for name, gradient in gradients(plain, exact).items():
        close = {"rtol": 1e-4, "atol": 1e-5 * float(gradient.abs().max())}
        torch.testing.assert_close(got[name], gradient, **close, msg=name)


def test_without_gradients_the_same_comes_out() -> None:
    ours, given = layer(8, 2), inputs(5, 8)
    with torch.no_grad():
        alone = ours(*given)
    assert torch.equal(alone, ours(*given))


def test_gradients_are_those_of_what_dropout_left() -> None:
    """A small step along the gradient changes the output, with the same seed, as it says."""
    ours, (x, similarity) = layer(8, 2, dropout=0.4), inputs(5, 8)

    def total(at: Tensor) -> Tensor:
        torch.manual_seed(2)
        return ours(at, similarity).sum(-1)[..., 0].square().sum()

    total(x).backward()
    direction, step = x.grad / x.grad.norm(), 1e-2
    with torch.no_grad():
        slope = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(x.grad.norm()), rel=1e-2)


@pytest.mark.parametrize("place", ["after attention", "at the end"])
def test_dropout_leaves_the_stated_share(place: str) -> None:
    """A residual of zero, and a map that makes 1 of everything: what is left is seen directly."""
    width, rate = 64, 0.25
    maps, vectors = torch.zeros(3, width, width), torch.zeros(6, width)
    x = torch.zeros(40, 50, width)
    if place == "at the end":
        vectors[1] = 1  # the last map's bias
        vectors[4] = 1  # scale of the last norm
    else:
        x[..., 0] = 1
        qkv_value = torch.zeros(width, 3 * width)
        qkv_value[0, 2 * width :] = 1
        maps[0] = torch.eye(width)
        vectors[2] = 1
        vectors[4] = 1
    qkv = torch.zeros(width, 3 * width) if place == "at the end" else qkv_value
    torch.manual_seed(3)
    with torch.no_grad():
        out = related_sensors(x, torch.zeros(50, 50), qkv, maps, vectors, 4, rate)
    dropped = out[..., 1:] < out[..., 1:].mean(-1, keepdim=True)
    share = float(dropped.double().mean())
    assert share == pytest.approx(rate, abs=0.02)


def test_the_seed_decides_and_calls_differ() -> None:
    ours, given = layer(8, 2, dropout=0.5), inputs(5, 8)
    torch.manual_seed(3)
    first, second = ours(*given), ours(*given)
    torch.manual_seed(3)
    assert torch.equal(first, ours(*given))
    assert not torch.equal(first, second)


def test_nan_spoils_its_own_group_only() -> None:
    ours, (x, similarity) = layer(8, 2), inputs(5, 8)
    with torch.no_grad():
        x[1, 1, 2] = torch.nan
    out = ours(x, similarity)
    assert out[1, 1].isnan().all()
    assert int(out.isnan().sum()) == out[1, 1].numel()


def test_a_second_derivative_is_refused() -> None:
    ours, (x, similarity) = layer(8, 2), inputs(5, 8)
    (grad,) = torch.autograd.grad(ours(x, similarity).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"probability 1.0 must be in \[0, 1\)"):
        layer(8, 2, dropout=1.0).train()(*inputs(5, 8))
    with pytest.raises((ValueError, TypeCheckError)):  # the tests check annotations first
        layer(8, 2)(inputs(5, 8)[0], torch.zeros(3, 3))


def test_no_weight_per_group_is_kept_for_the_backward_pass() -> None:
    kept: list[int] = []
    sensors, width = 200, 16
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        layer(width, 4, dropout=0.1)(*inputs(sensors, width))
    assert sum(kept) < 2 * sensors**2 + 12 * STEPS * SAMPLES * sensors * width
