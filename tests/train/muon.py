"""The optimizer of the matrices: Muon (Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/). A step goes
along the nearest orthogonal matrix to the momentum, so that all directions of a matrix learn alike; for a model that sees
few tokens that takes about half as many as AdamW. Embedding and norms keep AdamW. A step also shrinks the matrix a little
(decay, times the rate), without which queries and keys grow until each head looks at one token.
"""
import torch

MOMENTUM, ROUNDS = 0.95, 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration in that text


def orthogonal(g):
    """Singular values of g come near to 1."""
    a, b, c = COEFFICIENTS
    tall = g.shape[0] > g.shape[1]
    x = (g.t() if tall else g) / (g.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.t()
        x = a * x + (b * square + c * square @ square) @ x
    return x.t() if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices, lr, decay):
        super().__init__(matrices, dict(lr=lr, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"].mul_(MOMENTUM).add_(p.grad)
                ahead = p.grad + MOMENTUM * m
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(orthogonal(ahead), alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)
