"""The forward pass of every architecture, in numpy and float32, from formulas.py: what `coffer` must come near to.

A row of ARCHITECTURES says what a family does; the rest follows from the keys and from the tensors that a file has. No
cache: the whole prompt is one batch. It knows nothing of chunks, lanes or ranks, and of roundings only what an Arithmetic
adds. Sources beyond formulas.py: names, keys and defaults: llama.cpp (src/llama-arch.cpp, src/models/); Llama arXiv
2302.13971, Mixtral 2401.04088, Qwen2 2407.10671, Qwen3 2505.09388, Gemma 2403.08295, Gemma 3 2503.19786, Phi-3 2404.14219, GLM-4.5
2508.06471, DeepSeek-V2 (latent attention) 2405.04434."""
import sys
from dataclasses import dataclass, field

import numpy as np

import formulas as f
from gguf_file import F32


class Arithmetic:
    """Nothing is rounded. compare.py has another one, which rounds where coffer does."""

    absorbs = False  # latent attention: matrices of keys and values are applied to query and output instead

    def entering(self, x, quantised):
        """Rows on their way into a matrix."""
        return x

    def cached(self, x):
        """Keys and values on their way into the cache."""
        return x


@dataclass
class Family:
    neighbours: bool = False  # rope turns (2i, 2i + 1), not (i, i + half)
    mlp_norm: str = "ffn_norm"
    activation: object = f.swiglu
    scaled_embedding: bool = False
    gating: str = "softmax"  # without the key expert_gating_func
    normalise: bool = False  # without the key expert_weights_norm
    defaults: dict = field(default_factory=dict)
    wide_layers: int = 0  # the model with so many layers divides scores by sqrt(width / heads)


GEMMA = {"activation": f.geglu, "scaled_embedding": True}
ARCHITECTURES = {
    "llama": Family(neighbours=True, normalise=True),
    "qwen2": Family(),
    "qwen3": Family(),
    "qwen2moe": Family(),
    "qwen3moe": Family(normalise=True),
    "gemma": Family(**GEMMA),
    "gemma2": Family(**GEMMA, wide_layers=46, defaults={
        "attention.sliding_window": 4096, "attention.sliding_window_pattern": 2, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0}),
    "gemma3": Family(**GEMMA, wide_layers=62, defaults={"attention.sliding_window_pattern": 6}),
    "phi3": Family(),
    "gpt-oss": Family(mlp_norm="post_attention_norm", activation=f.swiglu_oai, gating="chosen",
                      defaults={"attention.sliding_window_pattern": 2}),
    "glm4moe": Family(mlp_norm="post_attention_norm", gating="sigmoid"),
    "deepseek2": Family(neighbours=True),
}
GATINGS = {1: "softmax", 2: "sigmoid", 3: "chosen"}


class Model:
    """A file, and how to compute with it. n_ctx: the context that a run would have; it chooses the factors of LongRoPE."""

    def __init__(self, gguf, arithmetic=None, n_ctx=0):
        self.gguf, self.arithmetic = gguf, arithmetic or Arithmetic()
        self.name = gguf.keys.get("general.architecture")
        if self.name not in ARCHITECTURES:
            sys.exit(f"no reference for {self.name}: there are {', '.join(ARCHITECTURES)}")
        self.family = ARCHITECTURES[self.name]
        self.n_ctx = n_ctx or self.key("context_length")
        self.n_layers = self.key("block_count") - self.key("nextn_predict_layers", 0)
        self.width, self.eps = self.key("embedding_length"), self.key("attention.layer_norm_rms_epsilon")

    def key(self, name, *default):
        """The key of the file, else what the family has, else the default."""
        found = self.gguf.keys.get(f"{self.name}.{name}", self.family.defaults.get(name))
        if found is None and not default:
            sys.exit(f"key {self.name}.{name} is missing")
        return default[0] if found is None else found

    # ---- products

    def has(self, layer, name):
        return f"blk.{layer}.{name}" in self.gguf

    def weight(self, layer, name):
        return self.gguf.tensor(f"blk.{layer}.{name}")

    def linear(self, x, name):
        """x times the transposed matrix name.weight, plus name.bias where the file has one."""
        y = self.arithmetic.entering(x, self.gguf.quantised(name + ".weight")) @ self.gguf.tensor(name + ".weight").T
        return y + self.gguf.tensor(name + ".bias") if name + ".bias" in self.gguf else y

    def part(self, x, name, i):
        """The same with matrix i of several."""
        y = self.arithmetic.entering(x, self.gguf.quantised(name + ".weight")) @ self.gguf.tensor(name + ".weight")[i].T
        return y + self.gguf.tensor(name + ".bias")[i] if name + ".bias" in self.gguf else y

    # ---- attention

    def window(self, layer):
        """0: every key is seen."""
        window, pattern = self.key("attention.sliding_window", 0), self.key("attention.sliding_window_pattern", None)
        if not window or pattern is None or self.name == "phi3":
            return 0
        windowed = pattern[layer] if isinstance(pattern, list) else not pattern or layer % pattern < pattern - 1
        return window if windowed else 0

    def rope(self, layer, x):
        base, windowed, factors = float(self.key("rope.freq_base", 10000.0)), bool(self.window(layer)), None
        if windowed:
            base = float(self.key("rope.freq_base_swa", 10000.0 if self.name == "gemma3" else base))
        longer = self.n_ctx > self.key("rope.scaling.original_context_length", self.key("context_length"))
        for name in ("rope_freqs.weight", f"rope_factors_{'long' if longer else 'short'}.weight"):
            if factors is None and name in self.gguf:
                factors = self.gguf.tensor(name)
        n_dims = self.key("rope.dimension_count", x.shape[-1])
        scaled = not (windowed and self.name == "gemma3")
        return f.rotate(x, *f.rope_frequencies(self.key, n_dims, base, scaled, factors), self.family.neighbours)

    def heads(self, layer):
        """Query, key and value: [positions][heads][size]."""
        heads, kv_heads = self.key("attention.head_count"), self.key("attention.head_count_kv", None)
        kv_heads = kv_heads or heads
        d_k = self.key("attention.key_length", self.width // heads)
        d_v = self.key("attention.value_length", self.width // heads)
        return (heads, d_k), (kv_heads, d_k), (kv_heads, d_v)

    def attend(self, layer, h):
        n, block, shapes = len(h), f"blk.{layer}.", self.heads(layer)
        if self.has(layer, "attn_qkv.weight"):
            rows = self.linear(h, block + "attn_qkv")
            q, k, v = np.split(rows, np.cumsum([a * b for a, b in shapes])[:2], axis=1)
        else:
            q, k, v = (self.linear(h, block + name) for name in ("attn_q", "attn_k", "attn_v"))
        q, k, v = (x.reshape(n, *shape) for x, shape in zip((q, k, v), shapes))
        if self.has(layer, "attn_q_norm.weight"):
            q = f.rms_norm(q, self.weight(layer, "attn_q_norm.weight"), self.eps)
            k = f.rms_norm(k, self.weight(layer, "attn_k_norm.weight"), self.eps)
        size = self.width / shapes[0][0] if self.n_layers == self.family.wide_layers else shapes[0][1]
        sinks = self.weight(layer, "attn_sinks.weight") if self.has(layer, "attn_sinks.weight") else None
        k, v = self.arithmetic.cached(self.rope(layer, k)), self.arithmetic.cached(v)
        out = f.attention(self.rope(layer, q), k, v, 1 / np.sqrt(size), self.window(layer),
                          self.key("attn_logit_softcapping", 0.0), sinks)
        return self.linear(out.reshape(n, -1), block + "attn_output")

    def attend_latent(self, layer, h):
        """Multi-head latent attention (DeepSeek-V2)."""
        n, block, heads = len(h), f"blk.{layer}.", self.key("attention.head_count")
        d_k = self.key("attention.key_length_mla", self.key("attention.key_length"))
        d_v = self.key("attention.value_length_mla", self.key("attention.value_length"))
        d_rope, rank = self.key("rope.dimension_count"), self.key("attention.kv_lora_rank")
        if self.has(layer, "attn_q_a.weight"):
            low = f.rms_norm(self.linear(h, block + "attn_q_a"), self.weight(layer, "attn_q_a_norm.weight"), self.eps)
            q = self.linear(low, block + "attn_q_b").reshape(n, heads, d_k)
        else:
            q = self.linear(h, block + "attn_q").reshape(n, heads, d_k)
        q = np.concatenate([q[..., :-d_rope], self.rope(layer, q[..., -d_rope:])], axis=2)
        both = self.linear(h, block + "attn_kv_a_mqa")
        latent = f.rms_norm(both[:, :rank], self.weight(layer, "attn_kv_a_norm.weight"), self.eps)
        latent, turned = self.arithmetic.cached(latent), self.arithmetic.cached(self.rope(layer, both[:, None, rank:]))
        out = self.latent_heads(layer, q, latent, turned, d_v)
        return self.linear(out.reshape(n, -1), block + "attn_output")

    def latent_heads(self, layer, q, latent, turned, d_v):
        """Queries, latent vectors and rotated parts of the keys -> [n][heads][d_v]."""
        heads, d_k = q.shape[1:]
        d_nope, scale = d_k - turned.shape[2], self.latent_scale(d_k)
        to_k, to_v = self.latent_matrices(layer, heads, d_nope, d_v, latent.shape[1])
        if self.arithmetic.absorbs:
            split = self.has(layer, "attn_k_b.weight")  # else the keys' matrix is turned over, and no longer quantised
            rounds_q = split and self.gguf.quantised(f"blk.{layer}.attn_k_b.weight")
            rounds_v = self.gguf.quantised(f"blk.{layer}.attn_{'v_b' if split else 'kv_b'}.weight")
            seen = [self.arithmetic.entering(q[:, h, :d_nope], rounds_q) @ to_k[h] for h in range(heads)]
            q = np.concatenate([np.stack(seen, axis=1), q[..., d_nope:]], axis=2)
            k = np.concatenate([latent[:, None], turned], axis=2)
            out = f.attention(q, k, latent[:, None], scale)
            return np.stack([self.arithmetic.entering(out[:, h], rounds_v) @ to_v[h].T for h in range(heads)], axis=1)
        k = np.concatenate([np.einsum("nr,hkr->nhk", latent, to_k), np.repeat(turned, heads, axis=1)], axis=2)
        return f.attention(q, k, np.einsum("nr,hvr->nhv", latent, to_v), scale)

    def latent_matrices(self, layer, heads, d_nope, d_v, rank):
        """[heads][rows][rank] of keys and of values; newer files have the keys' transposed."""
        if self.has(layer, "attn_kv_b.weight"):
            both = self.weight(layer, "attn_kv_b.weight").reshape(heads, d_nope + d_v, rank)
            return both[:, :d_nope], both[:, d_nope:]
        return self.weight(layer, "attn_k_b.weight").transpose(0, 2, 1), self.weight(layer, "attn_v_b.weight")

    def latent_scale(self, d_k):
        magnitude, factor = float(self.key("rope.scaling.attn_factor", 1.0)), float(self.key("rope.scaling.factor", 1.0))
        if self.key("rope.scaling.type", None) == "yarn":
            magnitude *= 1 + float(self.key("rope.scaling.yarn_log_multiplier", 0.1)) * np.log(factor)
        return magnitude * magnitude / np.sqrt(d_k)

    # ---- MLP

    def dense(self, h, block, suffix=""):
        if block + f"ffn_gate{suffix}.weight" in self.gguf:
            gate, up = (self.linear(h, block + name + suffix) for name in ("ffn_gate", "ffn_up"))
        else:
            gate, up = np.split(self.linear(h, block + "ffn_up" + suffix), 2, axis=1)
        return self.linear(self.family.activation(gate, up), block + "ffn_down" + suffix)

    def experts(self, layer, h):
        block, bias = f"blk.{layer}.", None
        if self.has(layer, "exp_probs_b.bias"):
            bias = self.weight(layer, "exp_probs_b.bias")
        gating = GATINGS.get(self.key("expert_gating_func", 0), self.family.gating)
        groups = self.key("expert_group_count", 0), self.key("expert_group_used_count", 0)
        chosen, weights = f.route(self.linear(h, block + "ffn_gate_inp"), self.key("expert_used_count"), gating, bias, groups,
                                  self.key("expert_weights_norm", self.family.normalise), self.key("expert_weights_scale", 0.0))
        out = np.zeros_like(h)
        for i in np.unique(chosen):
            rows, place = np.nonzero(chosen == i)
            out[rows] += weights[rows, place, None] * self.expert(h[rows], block, i)
        if self.has(layer, "ffn_down_shexp.weight"):
            shared = self.dense(h, block, "_shexp")
            if self.has(layer, "ffn_gate_inp_shexp.weight"):
                shared = shared * f.sigmoid(h @ self.weight(layer, "ffn_gate_inp_shexp.weight").reshape(-1, 1))
            out = out + shared
        return out

    def expert(self, h, block, i):
        if block + "ffn_gate_up_exps.weight" in self.gguf:
            gate, up = np.split(self.part(h, block + "ffn_gate_up_exps", i), 2, axis=1)
        else:
            gate, up = (self.part(h, block + name, i) for name in ("ffn_gate_exps", "ffn_up_exps"))
        return self.part(self.family.activation(gate, up), block + "ffn_down_exps", i)

    # ---- all of it

    def behind(self, layer, name, x):
        """The norm behind attention or MLP, where the family has one."""
        if self.family.mlp_norm == name or not self.has(layer, name + ".weight"):
            return x
        return f.rms_norm(x, self.weight(layer, name + ".weight"), self.eps)

    def logits(self, ids, every_position=False):
        embedding = self.gguf.tensor("token_embd.weight")
        x = embedding[ids] * F32(np.sqrt(self.width) if self.family.scaled_embedding else 1)
        for layer in range(self.n_layers):
            h = f.rms_norm(x, self.weight(layer, "attn_norm.weight"), self.eps)
            latent = self.has(layer, "attn_kv_a_mqa.weight")
            h = self.attend_latent(layer, h) if latent else self.attend(layer, h)
            x = x + self.behind(layer, "post_attention_norm", h)
            h = f.rms_norm(x, self.weight(layer, self.family.mlp_norm + ".weight"), self.eps)
            h = self.experts(layer, h) if self.has(layer, "ffn_gate_inp.weight") else self.dense(h, f"blk.{layer}.")
            x = x + self.behind(layer, "post_ffw_norm", h)
        x = f.rms_norm(x if every_position else x[-1:], self.gguf.tensor("output_norm.weight"), self.eps)
        head = "output" if "output.weight" in self.gguf else "token_embd"
        return f.soft_cap(self.linear(x, head), self.key("final_logit_softcapping", 0.0))
