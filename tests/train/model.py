"""The llama architecture in torch (Touvron et al. arXiv 2302.13971), as small as this project's model needs it: RMS norms,
rope, grouped queries, SwiGLU, the head tied to the embedding.

Rope turns the pairs (0, 1), (2, 3), ... of a head, as Meta's own code and GGUF's llama do; so q and k go into the file
as they are, while those of a model trained on halves (0, d/2), (1, d/2 + 1), ... would have to be permuted.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Shape:
    """Matrices of Q8_0 have rows of whole 32s."""

    vocab, dim, layers, heads, kv_heads, ffn = 1536, 192, 4, 6, 2, 384
    context = 512  # what the file says
    theta, eps = 10000.0, 1e-5
    head = property(lambda self: self.dim // self.heads)


def rope(x, cos, sin):
    """x: [batch][heads][positions][head]; cos, sin: [positions][head / 2]"""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(s.dim)), s.eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.attn_norm, self.ffn_norm = Norm(s), Norm(s)
        self.attn_q = nn.Linear(s.dim, s.dim, bias=False)
        self.attn_k = nn.Linear(s.dim, s.kv_heads * s.head, bias=False)
        self.attn_v = nn.Linear(s.dim, s.kv_heads * s.head, bias=False)
        self.attn_output = nn.Linear(s.dim, s.dim, bias=False)
        self.ffn_gate = nn.Linear(s.dim, s.ffn, bias=False)
        self.ffn_up = nn.Linear(s.dim, s.ffn, bias=False)
        self.ffn_down = nn.Linear(s.ffn, s.dim, bias=False)

    def attend(self, x, cos, sin, mask):
        """The queries that share a KV head stand below each other in one matrix."""
        s, (batch, n, _) = self.s, x.shape
        split = lambda y, heads: y.view(batch, n, heads, s.head).transpose(1, 2)
        q = rope(split(self.attn_q(x), s.heads), cos, sin)
        k = rope(split(self.attn_k(x), s.kv_heads), cos, sin)
        v = split(self.attn_v(x), s.kv_heads)
        q = q.reshape(batch, s.kv_heads, -1, s.head)
        scores = (q * s.head**-0.5) @ k.transpose(2, 3)
        scores = scores.view(batch, s.heads, n, n) + mask
        p = F.softmax(scores, -1).view(batch, s.kv_heads, -1, n)
        out = (p @ v).view(batch, s.heads, n, s.head)
        return self.attn_output(out.transpose(1, 2).reshape(batch, n, s.dim))

    def forward(self, x, cos, sin, mask):
        x = x + self.attend(self.attn_norm(x), cos, sin, mask)
        y = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Llama(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.token_embd = nn.Embedding(s.vocab, s.dim)
        self.blk = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.output_norm = Norm(s)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                late = "attn_output" in name or "ffn_down" in name  # those that add to the residual stream
                nn.init.normal_(p, std=0.02 if "embd" in name else p.shape[1] ** -0.5 / (math.sqrt(2 * s.layers) if late else 1))

    def forward(self, ids):
        """ids: [batch][positions] -> logits [batch][positions][vocab]"""
        n = ids.shape[1]
        angle = torch.arange(n)[:, None] * self.s.theta ** (-torch.arange(0, self.s.head, 2) / self.s.head)
        mask = torch.full((n, n), -math.inf).triu(1)
        x = self.token_embd(ids)
        for layer in self.blk:
            x = layer(x, angle.cos(), angle.sin(), mask)
        return F.linear(self.output_norm(x), self.token_embd.weight)

    def loss(self, ids):
        return F.cross_entropy(self(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
