"""PSAN against every array of the published implementation's golden files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import Golden, golden_paths

from psan import PSAN, load_reference_weights
from psan.reference import reference_names

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=golden_paths("psan"), ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def build(golden: Golden, dtype: torch.dtype = torch.float32) -> PSAN:
    sizes = golden.hparams
    model = PSAN(
        n_nodes=sizes["nnodes"],
        window=sizes["window"],
        n_prototypes=sizes["k"],
        d_model=sizes["emb_dim"],
        n_heads=sizes["nheads"],
        n_layers=sizes["layers"],
        dropout=0.0,
    )
    return load_reference_weights(model, golden.group("param")).to(dtype)


def inputs(golden: Golden, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    given = golden.group("in", dtype)
    return given["x"], given["mask"].bool(), given["u"]


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
def test_outputs(golden: Golden, dtype: torch.dtype) -> None:
    model = build(golden, dtype)
    expected = golden.group("out64" if dtype == torch.float64 else "out", dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    close = {"rtol": tolerance, "atol": tolerance}

    output = model(*inputs(golden, dtype))
    loss = (output - golden.group("in", dtype)["target"]).abs().mean()

    torch.testing.assert_close(output, expected["y_hat"], **close)
    torch.testing.assert_close(loss, expected["loss"], **close)
    out = golden.group("out", dtype)
    torch.testing.assert_close(model.prototypes(), out["sim"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        model.prototypes.vectors.data, out["proto_after"], rtol=1e-5, atol=1e-5
    )


def test_intermediate_tensors(golden: Golden) -> None:
    model = build(golden)
    seen: dict[str, torch.Tensor] = {}
    temporal, spatial = model.temporal[0], model.spatial[0]
    model.embedding.register_forward_hook(lambda m, i, o: seen.update(emb=o))
    temporal.register_forward_hook(lambda m, i, o: seen.update(layer0_bilstcm=o - i[0], x=i[0]))
    spatial.register_forward_hook(lambda m, i, o: seen.update(spatial_in=i[0]))
    model.head.register_forward_hook(lambda m, i, o: seen.update(encoder=i[0]))
    model(*inputs(golden))

    t, b, n, d = seen["x"].shape
    series = seen["x"].reshape(t, b * n, d).permute(2, 0, 1).contiguous()
    far, near = temporal.far(series), temporal.near(series)

    def to_steps(rows: torch.Tensor) -> torch.Tensor:
        return rows.T.reshape(t, b, n, d)

    back = temporal.past
    seen["layer0_r_gtcn"] = temporal.future.global_out(to_steps(far[:, 0]))
    local = to_steps(near[:, 1] + back.local_taps.bias[:, None])
    seen["layer0_l_ltcn"] = back.local_out(local).flip(0)
    seen["layer0_mhssa"] = spatial.attend(seen["spatial_in"], model.prototypes())

    expected = golden.group("mid")
    assert expected
    for name, array in expected.items():
        key = name.removesuffix("_flippedtime").removesuffix("_b0n0")
        torch.testing.assert_close(seen[key][:, 0, 0], array, rtol=1e-5, atol=1e-5)


def test_gradients(golden: Golden) -> None:
    model = build(golden)
    output = model(*inputs(golden))
    (output - golden.group("in")["target"]).abs().mean().backward()

    gradients: dict[str, torch.Tensor] = {}
    for name, sources in reference_names(model).items():
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None, name
        for source, part in zip(sources, gradient.chunk(len(sources)), strict=True):
            gradients[source] = part
    stored = golden.group("grad")
    assert stored
    for source, expected in stored.items():
        got = gradients[source].reshape(expected.shape)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert set(gradients) == set(golden.meta["grad_l2"])
    for source, norm in golden.meta["grad_l2"].items():
        assert float(gradients[source].double().norm()) == pytest.approx(norm, rel=1e-4, abs=1e-7)


def test_five_adam_steps(golden: Golden) -> None:
    model = build(golden)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    target = golden.group("in")["target"]
    losses = []
    for _ in golden.arrays["out/adam_losses"]:
        loss = (model(*inputs(golden)) - target).abs().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    np.testing.assert_allclose(losses, golden.arrays["out/adam_losses"], atol=5e-5, rtol=0)


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(golden: Golden, tmp_path: Path) -> None:
    model = build(golden)
    weights = golden.group("param")
    removed = {k: v for k, v in weights.items() if k != "imputer.2.bias"}
    with pytest.raises(ValueError, match=r"imputer\.2\.bias"):
        load_reference_weights(model, removed)
    with pytest.raises(ValueError, match="extra"):
        load_reference_weights(model, weights | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"imputer\.2\.bias"):
        load_reference_weights(model, weights | {"imputer.2.bias": torch.zeros(3)})
