"""The families of models that the tests make, as options of `coffer synth`: every architecture, and what differs inside
one. Used by compare.py, tests/ranks/families.py and tests/ranks/table.py."""

FAMILIES = {
    "llama": "--arch llama --rope-scaling llama3",
    "mixtral": "--arch llama --experts 6",
    "qwen2": "--arch qwen2",
    "qwen3": "--arch qwen3 --head-dim 64",
    "qwen2moe": "--arch qwen2moe",
    "qwen3moe": "--arch qwen3moe --head-dim 64",
    "qwen3moe-fused": "--arch qwen3moe --head-dim 64 --fused-gate-up",
    "gemma": "--arch gemma --head-dim 64",
    "gemma2": "--arch gemma2 --window 20 --head-dim 64",
    "gemma3": "--arch gemma3 --window 20 --window-pattern 2",
    "gemma3-linear": "--arch gemma3 --window 20 --window-pattern 3 --rope-scaling linear",
    "phi3": "--arch phi3",
    "phi3-short": "--arch phi3 --rope-dim 24 --rope-factor 1",
    "gpt-oss": "--arch gpt-oss --window 20 --head-dim 64",
    "gpt-oss-mxfp4": "--arch gpt-oss --window 20 --head-dim 64 --expert-type mxfp4",
    "gpt-oss-fused": "--arch gpt-oss --window 20 --head-dim 64 --fused-gate-up",
    "glm4moe": "--arch glm4moe --nextn 1",
    "glm4moe-norm": "--arch glm4moe --qk-norm",
    "deepseek2": "--arch deepseek2",
    "deepseek2-v2": "--arch deepseek2 --gating softmax --expert-groups 1 --shared-experts 2",
    "deepseek2-lite": "--arch deepseek2 --q-rank 0 --gating softmax",
    "deepseek2-fused": "--arch deepseek2 --fused-kv-b",
}
ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
                 "gpt-oss", "glm4moe", "deepseek2")
SPARSE = ("moe", "gpt-oss", "deepseek2")  # in the name of those whose experts have a width of their own


def has_experts(name):
    return name.startswith("mixtral") or any(part in name for part in SPARSE)


def options(name, dim, heads, kv_heads, ffn, expert_ffn):
    """Without layers, vocabulary and type."""
    shape = f"{FAMILIES[name]} --dim {dim} --heads {heads} --kv-heads {kv_heads} --ffn {ffn}"
    return f"{shape} --expert-ffn {expert_ffn}" if any(part in name for part in SPARSE) else shape
