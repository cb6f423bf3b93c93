"""The parts of which the references of all architectures are made: norms, rope, attention, activations, routing.

Sources: rope arXiv 2104.09864, YaRN arXiv 2309.00071 as llama.cpp computes it (rope_yarn), LongRoPE arXiv 2402.13753;
grouped queries arXiv 2305.13245; soft caps and windows: Gemma 2, arXiv 2408.00118; sinks, routing by the chosen logits and
the clamped SwiGLU: gpt-oss model card, arXiv 2508.10925; group routing and bias: DeepSeek-V3, arXiv 2412.19437."""
import numpy as np

F32 = np.float32

# ---------------------------------------------------------------------------------------------------------------- rope


def rope_frequencies(key, n_dims, base, scaled, factors):
    """Radians per position of each pair, and the factor of cosine and sine. scaled: as the keys rope.scaling.* say."""
    i = np.arange(n_dims // 2, dtype=np.float64)
    plain = base ** (-2.0 * i / n_dims)
    if factors is not None:
        plain = plain / factors.reshape(-1).astype(np.float64)
    kind, factor = key("rope.scaling.type", None), float(key("rope.scaling.factor", 0.0))
    if kind is None and key("rope.scale_linear", None):  # the old key
        factor = float(key("rope.scale_linear"))
    kind = kind or "linear"  # as llama.cpp has it
    magnitude = float(key("rope.scaling.attn_factor", 1.0))
    frequencies = plain / factor if scaled and kind in ("linear", "yarn") and factor else plain
    if kind == "yarn" and factor:
        share, more = yarn_share(key, n_dims, base, i)
        frequencies = frequencies * (1 - share) + plain * share
        if more and not key("rope.scaling.yarn_log_multiplier", None):
            magnitude *= 1 + 0.1 * np.log(factor)  # DeepSeek has it in the scale of the scores instead
    return frequencies, magnitude


def yarn_share(key, n_dims, base, i):
    """How much of the unscaled frequency each pair keeps, and the strength of it all."""
    context = key("rope.scaling.original_context_length", None) or key("context_length")
    fast = float(key("rope.scaling.yarn_beta_fast", 32.0))
    slow = float(key("rope.scaling.yarn_beta_slow", 1.0))
    extrapolate = float(key("rope.scaling.yarn_ext_factor", 1.0))

    def dim(turns):
        return n_dims * np.log(context / (turns * 2 * np.pi)) / (2 * np.log(base))

    first = max(0.0, np.floor(dim(fast)))
    last = min(n_dims - 1.0, np.ceil(dim(slow)))
    return (1 - np.clip((i - first) / max(0.001, last - first), 0, 1)) * extrapolate, extrapolate


def rotate(x, frequencies, magnitude, neighbours):
    """x: [positions][heads][size]; the first 2 * pairs components turn, pairs being (2i, 2i + 1) or (i, i + pairs)."""
    n = len(frequencies)
    angle = np.arange(len(x), dtype=np.float64)[:, None, None] * frequencies
    cos, sin = (np.cos(angle) * magnitude).astype(F32), (np.sin(angle) * magnitude).astype(F32)
    first, second = (slice(0, 2 * n, 2), slice(1, 2 * n, 2)) if neighbours else (slice(0, n), slice(n, 2 * n))
    a, b = x[..., first], x[..., second]
    out = x.copy()
    out[..., first], out[..., second] = a * cos - b * sin, a * sin + b * cos
    return out


# -------------------------------------------------------------------------------------------------- norms, activations


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + F32(eps)) * weight


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    with np.errstate(over="ignore"):
        return F32(1) / (F32(1) + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    """The form with tanh."""
    return F32(0.5) * x * (1 + np.tanh(F32(np.sqrt(2 / np.pi)) * (x + F32(0.044715) * x * x * x)))


def soft_cap(x, cap):
    return F32(cap) * np.tanh(x / F32(cap)) if cap else x


def swiglu(gate, up):
    return silu(gate) * up


def geglu(gate, up):
    return gelu(gate) * up


def swiglu_oai(gate, up):
    gate, up = np.minimum(gate, F32(7)), np.clip(up, F32(-7), F32(7))
    return gate * sigmoid(F32(1.702) * gate) * (up + 1)


# ----------------------------------------------------------------------------------------------------------- attention


def attention(q, k, v, scale, window=0, cap=0.0, sinks=None):
    """q: [n][heads][d_k], k: [n][kv heads][d_k], v: [n][kv heads][d_v] -> [n][heads][d_v], causal. window: how many keys a
    query sees, itself among them (0: all). sinks: [heads], a score that takes part in the softmax and has no value."""
    n, heads, _ = q.shape
    group = heads // k.shape[1]
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    hidden = (distance < 0) | (distance >= (window or n))
    out = np.empty((n, heads, v.shape[2]), F32)
    for h in range(heads):
        scores = soft_cap(q[:, h] @ k[:, h // group].T * F32(scale), cap)
        scores[hidden] = -np.inf
        if sinks is not None:
            scores = np.concatenate([scores, np.full((n, 1), sinks[h], F32)], axis=1)
        out[:, h] = softmax(scores)[:, :n] @ v[:, h // group]
    return out


# ------------------------------------------------------------------------------------------------------------- routing


def top(x, n):
    """Numbers of the n highest of each row; of equals the lower number."""
    return np.argsort(-x, axis=-1, kind="stable")[..., :n]


def within_best_groups(choice, groups, groups_used):
    """Only the experts of the best groups stay; a group is as good as its two best experts together."""
    n, experts = choice.shape
    grouped = choice.reshape(n, groups, experts // groups)
    best_two = np.sort(grouped, axis=-1)[..., -2:].sum(axis=-1)
    kept = np.full_like(grouped, -np.inf)
    rows = np.arange(n)[:, None]
    best = top(best_two, groups_used)
    kept[rows, best] = grouped[rows, best]
    return kept.reshape(n, experts)


def route(logits, used, gating, bias=None, groups=(0, 0), normalise=False, scale=0.0):
    """Router logits [n][experts] -> chosen experts and their weights, [n][used]. gating: softmax, sigmoid, or chosen
    (softmax over the chosen ones alone)."""
    scores = {"softmax": softmax, "sigmoid": sigmoid, "chosen": lambda x: x}[gating](logits)
    choice = scores if bias is None else scores + bias
    if groups[0] > 1:
        choice = within_best_groups(choice, *groups)
    chosen = top(choice, used)
    weights = np.take_along_axis(scores, chosen, axis=1)
    if gating == "chosen":
        weights = softmax(weights)
    if normalise:
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), F32(2.0**-14))
    return chosen, weights * F32(scale) if scale else weights
