"""Multi-head attention with one additive bias shared by every sample, step and head."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def biased_attention(
    projected: Float[Tensor, "g n 3 h e"], bias: Float[Tensor, "n n"], dropout: float = 0.0
) -> Float[Tensor, "g n h e"]:
    """`dropout(softmax(query keyᵀ / √e + bias)) value` for each group `g` (sample × step) and head.

    Args:
        projected: query, key and value of each node and head, `e` features each: what it asks for,
            what it offers and what it hands on.
        bias: added unscaled to the scores of every group and head; `bias[i, j]` is for query node
            `i` and key node `j`.
        dropout: probability with which a weight is dropped; 0 outside training.

    Raises:
        ValueError: a bias for another number of nodes, or a probability outside [0, 1).
    """
    nodes = projected.shape[1]
    if bias.shape != (nodes, nodes):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; {nodes} nodes need {(nodes, nodes)}")
    query, key, value = projected.transpose(1, 3).unbind(2)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return mixed.transpose(1, 2)
