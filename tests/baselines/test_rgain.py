"""rGAIN against its golden file, its two players in one loss, and its edge cases."""

import copy

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths
from torch import Tensor

from baselines.rgain import RGAIN, mask_hint, masked_rmse

PATHS = golden_paths("rgain")
IDS = [path.stem for path in PATHS]


def load(path, dtype: torch.dtype) -> tuple[Golden, RGAIN, dict[str, Tensor]]:
    """The golden model and its inputs, [b t n]; the files hold the noise and the hint."""
    golden = Golden(path)
    sizes = golden.hparams
    model = RGAIN(
        sizes["d_in"],
        d_hidden=sizes["d_model"],
        d_noise=sizes["d_z"],
        dropout=0.0,
        reconstruction_weight=sizes["alpha"],
        n_draws=sizes["k"],
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    inputs = golden.group("in", dtype)
    for name in ("training_mask", "mask_target", "hint_bernoulli"):
        inputs[name] = inputs[name] > 0
    return golden, model, inputs


def outputs(model: RGAIN, given: dict[str, Tensor]) -> dict[str, Tensor]:
    x, observed = given["x"], given["training_mask"]
    target, visible = given["target"], given["mask_target"]
    generated = model.generator(x, observed, given["z"])
    completed = x.where(observed, generated.merged)
    hint = mask_hint(observed, given["hint_bernoulli"]).to(x)
    errors = sum(masked_rmse(series, target, visible) for series in generated)
    g_loss = model.generator_loss(generated, completed, observed, hint, target, visible)
    d_loss = model.discriminator_loss(completed, observed, hint)
    return {
        "x_hat": generated.merged,
        "x_hat_fwd": generated.forward,
        "x_hat_bwd": generated.backward,
        "disc_logits": model.discriminator(completed, hint),
        "hint": hint,
        "rec_loss": errors,
        "adv_loss": g_loss - model.reconstruction_weight * errors,
        "g_loss": g_loss,
        "d_loss": d_loss,
        "loss": d_loss,
    }


@pytest.mark.parametrize(
    ("dtype", "group", "tolerance"), [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-9)]
)
@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_outputs(path, dtype, group, tolerance):
    golden, model, given = load(path, dtype)
    got, expected = outputs(model, given), golden.group(group)
    assert got.keys() >= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_gradients(path):
    """One backward pass over the sum gives each network the gradient of its own loss."""
    golden, model, given = load(path, torch.float32)
    got = outputs(model, given)
    (got["g_loss"] + got["d_loss"]).backward()
    assert_gradients(model, golden)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == golden.meta["params_without_grad"]


def example(b: int = 2, t: int = 6, n: int = 5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, t, n, 1, generator=generator)
    visible = torch.rand(b, t, n, 1, generator=generator) > 0.3
    visible[:, :, 0] = False  # nothing is known of the first sensor
    observed = visible & (torch.rand(b, t, n, 1, generator=generator) > 0.2)
    return {
        "x": x.where(observed, torch.nan),
        "observed": observed,
        "time_features": torch.zeros(b, t, 0),
        "target": x.where(visible, torch.nan),
        "visible": visible,
    }


def build(**sizes) -> RGAIN:
    return RGAIN(5, **{"d_hidden": 6, "d_noise": 2, **sizes})


def test_one_adam_on_the_sum_equals_two_on_the_parts():
    """Five batches against the published loop: two optimisers, the generator every third batch."""
    model = build(dropout=0.0)
    other = copy.deepcopy(model)
    joint = torch.optim.Adam(model.parameters(), lr=0.01)
    players = (other.generator, other.discriminator)
    of_generator, of_discriminator = (torch.optim.Adam(p.parameters(), lr=0.01) for p in players)
    for index in range(5):
        call = example(seed=index)
        torch.manual_seed(index)
        joint.zero_grad()
        model.loss(**call).backward()
        joint.step()

        torch.manual_seed(index)
        x, observed, target, visible = (
            call[name].squeeze(-1) for name in ("x", "observed", "target", "visible")
        )
        generated = other.generator(x, observed, 0.1 * torch.rand(2, 6, 2))
        completed = x.where(observed, generated.merged)
        hint = mask_hint(observed, torch.rand(2, 6, 5) < 0.7)
        if index % 3 == 0:
            of_generator.zero_grad()
            other.generator_loss(generated, completed, observed, hint, target, visible).backward()
            of_generator.step()
        of_discriminator.zero_grad()
        other.discriminator_loss(completed, observed, hint).backward()
        of_discriminator.step()
    assert model.batches == 5
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_generators_turn():
    model = build(generator_every=2)
    for index in range(4):
        model.zero_grad()
        model.loss(**example()).backward()
        trained = {p.grad is not None for p in model.generator.parameters()}
        assert trained == {index % 2 == 0}
        assert all(p.grad is not None for p in model.discriminator.parameters())


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e9])
def test_hidden_values_change_nothing(junk):
    model, call = build(), example()
    results = []
    for filling in (0.0, junk):
        call["x"] = call["x"].where(call["observed"], filling)
        call["target"] = call["target"].where(call["visible"], filling)
        model.zero_grad()
        model.batches.zero_()
        torch.manual_seed(0)
        loss = model.train().loss(**call)
        loss.backward()
        imputed = model.eval()(call["x"], call["observed"], call["time_features"])
        results.append([loss, imputed, *(p.grad.clone() for p in model.parameters())])
    assert all(map(torch.equal, *results))


def test_batch_of_one_equals_its_part_of_a_larger_batch():
    model, call = build().eval(), example(b=3)
    inputs = [call[name] for name in ("x", "observed", "time_features")]
    whole = model(*inputs)
    assert whole.isfinite().all()
    torch.testing.assert_close(model(*(a[1:2] for a in inputs)), whole[1:2])


def test_an_estimate_never_sees_its_own_reading():
    model, call = build().eval(), example()
    x, observed = call["x"].nan_to_num(), torch.ones_like(call["observed"])
    changed = x.clone()
    changed[:, 3] += 1.0
    before, after = (model(a, observed, call["time_features"]) for a in (x, changed))
    torch.testing.assert_close(before[:, 3], after[:, 3])
    assert (before[:, [2, 4]] != after[:, [2, 4]]).any(dim=2).all()


def test_without_labels_only_the_play_is_left():
    model, call = build(reconstruction_weight=1e6), example()
    loss = model.loss(**call | {"visible": torch.zeros_like(call["visible"])})
    loss.backward()
    assert 0 < loss.item() < 10
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert masked_rmse(torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 2, 3) > 0) == 0


def test_state_dict_round_trip():
    call = example()
    first, second = build().eval(), build().eval()

    def loss(model):
        torch.manual_seed(0)
        return model.loss(**call)

    assert loss(first) != loss(second)
    first.batches += 7
    second.load_state_dict(first.state_dict(), strict=True)
    assert loss(first) == loss(second)
    assert second.batches == 7


def test_mixed_precision_runs_and_stays_near():
    model, call = build(dropout=0.0).eval(), example()
    torch.manual_seed(0)
    exact = model.loss(**call)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(**call)
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.0)
