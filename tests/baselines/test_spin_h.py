"""SPIN against the published implementation, and its promises on masks and graphs."""

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths

from baselines.spin_h import SPINH

GOLDEN = [Golden(path) for path in golden_paths("spinh")]


def build(golden, dtype=torch.float32):
    h = golden.hparams
    assert h["input_size"] == h["output_size"] == 1
    same = (
        "h_size z_size z_heads n_layers eta message_layers reweight update_z_cross norm spatial_aggr"
    )
    model = SPINH(
        n_nodes=h["N"],
        edge_index=golden.group("in")["edge_index"],
        n_time_features=h["u_size"],
        **{name: h[name] for name in same.split()},
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    return model


def arguments(golden, dtype=torch.float32):
    g = golden.group("in", dtype)
    return (g["x"], g["mask"].bool(), g["u"]), (g["target"], g["mask_target"].bool())


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: g.path.stem)
@pytest.mark.parametrize(
    ("group", "dtype", "tol"), [("out", torch.float32, 1e-5), ("out64", torch.float64, 1e-9)]
)
def test_outputs_as_published(golden, group, dtype, tol):
    model = build(golden, dtype)
    seen, labels = arguments(golden, dtype)
    expected = golden.group(group)
    outputs = model.predictions(*seen)
    got = {
        "x_hat": model(*seen),
        "imputations": torch.stack(outputs[:-1]),
        "loss": model.loss(*seen, *labels),
        "pe_used": model.u_enc.positional.pe[: seen[0].shape[1], 0],
    }
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=tol, atol=tol, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: g.path.stem)
def test_gradients_as_published(golden):
    model = build(golden)
    seen, labels = arguments(golden)
    model.loss(*seen, *labels).backward()
    assert_gradients(model, golden)
