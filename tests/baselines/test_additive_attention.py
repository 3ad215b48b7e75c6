"""Additive attention in chunks against the equations written out for every pair."""

import pytest
import torch
from torch import nn

from baselines import pair_attention, pair_kernels, pair_plan
from baselines.additive_attention import AdditiveAttention
from baselines.pair_plan import plan_pairs

R, Q, S, T, P = 5, 4, 6, 3, 9  # source rows, target rows, source steps, target steps, pairs


def weights(score, usable, reweight):
    """[t s] from scores and which of them count."""
    if reweight == "softmax":
        score = score.masked_fill(~usable, -torch.inf)
        peak = score.amax(-1, keepdim=True)
        e = (score - peak.where(peak.isfinite(), 0.0).detach()).exp()
        return e / (e.sum(-1, keepdim=True) + 5e-8)
    gate = torch.sigmoid(score).where(usable, 0.0)
    return gate / (gate.sum(-1, keepdim=True) + 1e-5) if reweight == "l1" else gate


def oracle(attention, source, target, pairs, usable, n_targets, other_steps_only):
    """The published order of operations: one message per pair of steps, then the weighted sum."""
    results = []
    for j, i in pairs.T.tolist():
        sent = attention.lin_src(source[j])[None] + attention.lin_tgt(target[i])[:, None]
        message = attention.msg_nn(sent)  # [t s d]
        gate = attention.msg_gate
        gate = gate if isinstance(gate, nn.Linear) else gate[0]
        counts = usable[j].expand(message.shape[:2])
        if other_steps_only:
            counts = counts & ~torch.eye(len(counts), dtype=torch.bool)
        alpha = weights(gate(message)[..., 0], counts, attention.reweight)
        results.append((alpha[..., None] * message).sum(1))
    out = torch.stack(results)
    roots = target[pairs[1]]
    if n_targets is not None:
        roots = target
        out = out.new_zeros(n_targets, *out.shape[1:]).index_add(0, pairs[1], out)
    if attention.lin_skip is not None:
        out = out + attention.lin_skip(roots)
    return out if attention.norm is None else attention.norm(out)


def build(reweight="softmax", layers=1, d_out=4, **kwargs):
    torch.manual_seed(1)
    sizes = {"d_source": 3, "d_target": 5, "d_out": d_out, "d_message": 7}
    attention = AdditiveAttention(
        **sizes, message_layers=layers, reweight=reweight, **kwargs
    ).double()
    with torch.no_grad():
        for p in attention.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return attention


def inputs(n_source=S, n_target=T):
    torch.manual_seed(2)
    source = torch.randn(R, n_source, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(Q, n_target, 5, dtype=torch.float64, requires_grad=True)
    usable = torch.rand(R, n_source) < 0.5
    usable[0], usable[1], usable[2] = False, True, torch.arange(n_source) == 1
    pairs = torch.stack([torch.arange(P) % R, torch.arange(P) % (Q - 1)])  # target 3 gets nothing
    return source, target, usable, pairs


def gradients(out, *tensors):
    torch.manual_seed(3)
    used = [t for t in tensors if t.requires_grad]
    return torch.autograd.grad((out * torch.randn_like(out)).sum(), used)


def compute_in_torch(monkeypatch, chunk):
    """Chunks of that size in torch; None: leave the compiled kernels, which know no chunks."""
    if chunk is not None:
        monkeypatch.setattr(pair_attention, "COMPILED", False)
        monkeypatch.setattr(pair_plan, "CHUNK_CPU", chunk)


@pytest.mark.parametrize("chunk", [None, 1, 300, 2**40])
@pytest.mark.parametrize("reweight", ["softmax", "l1", "none"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_agrees_with_the_equations(monkeypatch, chunk, reweight, layers, summed, masked):
    compute_in_torch(monkeypatch, chunk)
    attention = build(reweight, layers, root_weight=not summed, norm=not summed)
    source, target, usable, pairs = inputs()
    n_targets = Q if summed else None
    plan = plan_pairs(pairs, S, usable if masked else None, n_targets)
    everything = usable if masked else torch.ones_like(usable)
    got = attention(source, target, plan)
    expected = oracle(attention, source, target, pairs, everything, n_targets, False)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    parts = (source, target, *attention.parameters())
    for a, b in zip(gradients(got, *parts), gradients(expected, *parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reweight", ["softmax", "l1", "none"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 16])
@pytest.mark.parametrize("chunk", [None, 2**40])
def test_own_step_is_left_out(monkeypatch, chunk, reweight, masked, steps):
    compute_in_torch(monkeypatch, chunk)
    attention = build(reweight)
    source, target, usable, _ = inputs(steps, steps)
    pairs = torch.arange(Q).expand(2, -1)
    plan = plan_pairs(pairs, steps, usable if masked else None, Q, other_steps_only=True)
    everything = usable if masked else torch.ones_like(usable)
    got = attention(source, target, plan)
    expected = oracle(attention, source, target, pairs, everything, Q, True)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    parts = (source, target, *attention.parameters())
    for a, b in zip(gradients(got, *parts), gradients(expected, *parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 3, 20])
@pytest.mark.parametrize("reweight", ["softmax", "l1", "none"])
@pytest.mark.parametrize("other_steps_only", [True, False])
def test_compiled_tiles_and_threads(monkeypatch, threads, reweight, other_steps_only):
    steps = 11
    attention = build(reweight, d_out=400)
    per_tile = pair_kernels.TILE // attention.msg_nn[1].mlp[0].layer[0].weight.numel()
    assert per_tile < steps**2, "more than one tile per pair"
    source, target, usable, pairs = inputs(steps, steps)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    parts = (source, target, *attention.parameters())
    results = []
    for compiled in (True, False):
        monkeypatch.setattr(pair_attention, "COMPILED", compiled)
        plan = plan_pairs(pairs, steps, usable, Q, other_steps_only=other_steps_only)
        out = attention(source, target, plan)
        results.append((out, *gradients(out, *parts)))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)


def test_many_steps_take_the_matrix_product(monkeypatch):
    compute_in_torch(monkeypatch, 2**40)
    steps = pair_attention.MIN_STEPS_MATMUL + 3
    attention = build()
    source, target, usable, pairs = inputs(steps)
    plan = plan_pairs(pairs, steps, usable, Q)
    expected = oracle(attention, source, target, pairs, usable, Q, False)
    torch.testing.assert_close(attention(source, target, plan), expected, rtol=1e-9, atol=1e-9)


def test_as_many_pairs_as_targets_still_gives_one_result_per_pair():
    attention = build(root_weight=True)
    source, target, usable, _ = inputs()
    pairs = torch.tensor([[2, 1, 3, 1], [3, 0, 1, 1]])
    got = attention(source, target, plan_pairs(pairs, S, usable))
    expected = oracle(attention, source, target, pairs, usable, None, False)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_unusable_sources_get_no_gradient():
    attention = build()
    source, target, usable, pairs = inputs()
    attention(source, target, plan_pairs(pairs, S, usable, Q)).square().sum().backward()
    assert (source.grad[~usable] == 0).all()
    assert (source.grad[usable] != 0).any()


def test_no_pairs():
    attention = build()
    source, target, usable, _ = inputs()
    nothing = torch.empty(2, 0, dtype=torch.long)
    for mask in (usable, None):
        out = attention(source, target, plan_pairs(nothing, S, mask, Q))
        assert torch.equal(out, torch.zeros(Q, T, 4, dtype=torch.float64))
        assert attention(source, target, plan_pairs(nothing, S, mask)).shape == (0, T, 4)


def test_huge_scores_stay_finite():
    attention = build()
    source, target, usable, pairs = inputs()
    with torch.no_grad():
        attention.msg_gate.weight.mul_(1e6)
    out = attention(source, target, plan_pairs(pairs, S, usable, Q))
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, source, target))


def test_autocast_computes_pairs_in_full_precision():
    attention = build().float()
    source, target, usable, pairs = inputs()
    source, target = source.detach().float(), target.detach().float()
    plan = plan_pairs(pairs, S, usable, Q)
    exact = attention(source, target, plan)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(source, target, plan)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, rtol=0.1, atol=0.1)
    out.sum().backward()


def test_errors_name_the_choices():
    with pytest.raises(ValueError, match=r"'sofmax'.*softmax.*l1.*none"):
        AdditiveAttention(d_source=1, d_target=1, d_out=1, d_message=1, reweight="sofmax")
    with pytest.raises(ValueError, match="message_layers must be at least 1, got 0"):
        AdditiveAttention(d_source=1, d_target=1, d_out=1, d_message=1, message_layers=0)
