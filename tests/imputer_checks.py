"""Checks that every network with `predictions`, `forward` and `loss` has to pass."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Arguments of `loss`; the first three are those of `forward`."""

    x: Tensor
    observed: Tensor
    time_features: Tensor
    target: Tensor
    visible: Tensor

    @property
    def seen(self):
        return self.x, self.observed, self.time_features

    @property
    def all(self):
        return (*self.seen, self.target, self.visible)


def random_batch(
    n_nodes: int, n_steps: int, n_features: int, n_batch: int = 2, seed: int = 0
) -> Batch:
    g = torch.Generator().manual_seed(seed)
    shape = (n_batch, n_steps, n_nodes, 1)
    target = torch.randn(shape, generator=g)
    visible = torch.rand(shape, generator=g) < 0.8
    observed = visible & (torch.rand(shape, generator=g) < 0.6)
    time_features = torch.randn(n_batch, n_steps, n_features, generator=g)
    return Batch(target.clone(), observed, time_features, target, visible)


def golden_batch(golden, dtype: torch.dtype) -> Batch:
    g = golden.group("in", dtype)
    return Batch(g["x"], g["mask"].bool(), g["u"], g["target"], g["mask_target"].bool())


def assert_as_stored(got: dict[str, Tensor], golden, dtype: torch.dtype) -> None:
    """Every output of the file is there and agrees, and there is no other."""
    expected = golden.group("out" if dtype == torch.float32 else "out64")
    tol = 1e-5 if dtype == torch.float32 else 1e-9
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=tol, atol=tol, msg=lambda m, n=name: f"{n}: {m}"
        )


def names_without_gradient(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is None}


def gradients(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = model.loss(*batch.all)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_finite(model: nn.Module, batch: Batch) -> None:
    output = model(*batch.seen)
    assert output.shape == batch.x.shape
    assert output.isfinite().all()
    loss, grads = gradients(model, batch)
    assert loss.isfinite()
    assert grads
    assert all(g.isfinite().all() for g in grads.values())


def assert_hidden_values_change_nothing(model: nn.Module, batch: Batch) -> None:
    """Outputs, loss and gradients are the same to the last bit, whatever stands in the gaps."""
    model.eval()
    output = model(*batch.seen)
    loss, grads = gradients(model, batch)
    for junk in (float("nan"), float("inf"), 1e30):
        x = batch.x.masked_fill(~batch.observed, junk)
        target = batch.target.masked_fill(~batch.visible, junk)
        spoiled = Batch(x, batch.observed, batch.time_features, target, batch.visible)
        assert torch.equal(model(*spoiled.seen), output)
        other_loss, other = gradients(model, spoiled)
        assert torch.equal(other_loss, loss)
        assert other.keys() == grads.keys()
        assert all(torch.equal(other[n], g) for n, g in grads.items())


def assert_samples_are_independent(model: nn.Module, batch: Batch) -> None:
    """A batch of one gives what the sample gives within a larger batch."""
    model.eval()
    together = model(*batch.seen)
    for i in range(len(batch.x)):
        alone = model(*(part[i : i + 1] for part in batch.seen))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-5)


def assert_empty_loss_is_zero(model: nn.Module, batch: Batch) -> None:
    """Without a label the loss is 0, and so are its gradients."""
    unlabelled = Batch(*batch.seen, batch.target, batch.observed)
    loss, grads = gradients(model, unlabelled)
    assert loss == 0
    assert all((g == 0).all() for g in grads.values())


def assert_state_round_trip(model: nn.Module, batch: Batch) -> None:
    """The state fills a copy with other weights; it holds parameters and nothing else."""
    model.eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    state = model.state_dict()
    assert state.keys() == dict(model.named_parameters()).keys()
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(*batch.seen), model(*batch.seen))
