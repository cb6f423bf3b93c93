#!/usr/bin/env python3
"""quantize_test.py COFFER: coffer quantize from outside. What synth writes in a type is, byte for byte, what quantize makes of
the same model in F32; mixes and fallbacks by tensor; what must be refused; an input that is only read, and an output that
appears whole or not at all."""
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile

COFFER = os.path.abspath(sys.argv[1])
SHAPE = "--arch llama --layers 3 --dim 256 --heads 4 --kv-heads 2 --ffn 512 --vocab 400 --untied --seed 5".split()


def coffer(*args, status=0, **more):
    done = subprocess.run([COFFER, *args], capture_output=True, text=True, errors="replace", **more)
    assert done.returncode == status, (args, done.returncode, done.stderr)
    return done


def synth(name, *options):
    coffer("synth", *SHAPE, *options, "-o", name)


def content(name):
    with open(name, "rb") as f:
        return f.read()


def types(name):
    """tensor -> type, from coffer inspect"""
    text = coffer("inspect", "-m", name, "--json").stdout
    import json
    return {t["name"]: t["type"] for t in json.loads(text)["tensors"]}


def test_equals_synth():
    synth("f32.gguf", "--type", "f32")
    before = content("f32.gguf")
    for name, synth_name in (("Q8_0", "q8_0"), ("Q4_0", "q4_0"), ("Q4_1", "q4_1"), ("Q5_0", "q5_0"), ("Q5_1", "q5_1"),
                             ("Q4_K_S", "q4_k"), ("q5_k_s", "q5_k"), ("Q6_K", "q6_k"), ("F16", "f16"), ("BF16", "bf16"),
                             ("Q2_K", "q2_k"), ("Q3_K_S", "q3_k"), ("IQ4_XS", "iq4_xs"), ("IQ4_NL", "iq4_nl")):
        synth("want.gguf", "--type", synth_name)
        for threads in "1", "3":
            coffer("quantize", "--pure", "f32.gguf", "got.gguf", name, threads)
            assert content("got.gguf") == content("want.gguf"), name
    assert content("f32.gguf") == before
    run = [coffer("run", "-m", f, "-p", "ab", "-n", "4", "--temp", "0", "--ranks", "1").stdout for f in ("got.gguf", "want.gguf")]
    assert run[0] == run[1]


def test_mixes():
    done = coffer("quantize", "f32.gguf", "mix.gguf", "Q4_K")
    of = types("mix.gguf")
    want = {"output.weight": "Q6_K", "token_embd.weight": "Q4_K", "blk.0.attn_v.weight": "Q4_K", "blk.2.attn_v.weight": "Q6_K",
            "blk.2.ffn_down.weight": "Q6_K", "blk.1.ffn_up.weight": "Q4_K", "blk.0.attn_norm.weight": "F32"}
    assert {name: of[name] for name in want} == want, of
    lines = [line for line in done.stdout.splitlines() if " -> Q4_K " in line]
    assert lines and all(6 < float(re.search(r"\(([\d.]+) %\)", line).group(1)) < 8 for line in lines), done.stdout
    assert "Q4_K_M" in done.stdout.splitlines()[-1] and "quantizing" in done.stderr
    coffer("quantize", "--output-tensor-type", "f16", "--token-embedding-type", "q5_1", "f32.gguf", "mix.gguf", "Q5_K_M")
    of = types("mix.gguf")
    assert (of["output.weight"], of["token_embd.weight"], of["blk.0.attn_q.weight"]) == ("F16", "Q5_1", "Q5_K"), of
    coffer("quantize", "--leave-output-tensor", "f32.gguf", "mix.gguf", "q8_0")
    of = types("mix.gguf")
    assert (of["output.weight"], of["blk.0.attn_q.weight"]) == ("F32", "Q8_0"), of
    coffer("quantize", "f32.gguf", "Q6_K")
    assert types("ggml-model-Q6_K.gguf")["blk.0.attn_q.weight"] == "Q6_K"


def test_other_shapes():
    # 96 and 160 columns: no multiple of 256; three dimensions: experts, whose router stays.
    coffer("synth", "--arch", "qwen3moe", "--layers", "2", "--dim", "96", "--heads", "4", "--kv-heads", "2", "--experts", "4",
           "--experts-used", "2", "--expert-ffn", "160", "--vocab", "400", "--type", "f16", "-o", "moe.gguf")
    done = coffer("quantize", "moe.gguf", "moe-q.gguf", "Q4_K_S")
    of = types("moe-q.gguf")
    assert of["blk.1.ffn_up_exps.weight"] == "Q5_0" and of["token_embd.weight"] == "Q8_0", of
    assert of["blk.1.ffn_gate_inp.weight"] == types("moe.gguf")["blk.1.ffn_gate_inp.weight"]
    assert "instead of Q4_K, whose blocks do not divide 96 columns" in done.stdout
    coffer("run", "-m", "moe-q.gguf", "-p", "ab", "-n", "4", "--temp", "0", "--ranks", "1")


def test_requantize():
    synth("q8.gguf", "--type", "q8_0")
    refused = coffer("quantize", "q8.gguf", "no.gguf", "Q4_K_M", status=2).stderr
    assert "is quantised already (Q8_0)" in refused and not os.path.exists("no.gguf"), refused
    coffer("quantize", "--allow-requantize", "q8.gguf", "again.gguf", "Q4_K_M")
    assert types("again.gguf")["blk.0.attn_q.weight"] == "Q4_K"
    coffer("quantize", "q8.gguf", "same.gguf", "q8_0")  # nothing to change
    assert content("same.gguf") == content("q8.gguf")


def test_refusals():
    for args, word, status in (
            (["f32.gguf"], "operands", 2), (["f32.gguf", "x.gguf", "Q9"], "unknown type", 2), (["f32.gguf", "x.gguf", "IQ2_XS"], "importance", 1),
            (["f32.gguf", "x.gguf", "Q8_0", "many"], "threads", 2), (["f32.gguf", "f32.gguf", "Q8_0"], "the input itself", 2),
            (["none.gguf", "x.gguf", "Q8_0"], "none.gguf", 1), (["--output-tensor-type", "Q7", "f32.gguf", "x.gguf", "Q8_0"], "Q7", 2),
            (["f32.gguf", "nowhere/x.gguf", "Q8_0"], "nowhere", 1)):
        text = coffer("quantize", *args, status=status).stderr
        assert text.startswith("coffer quantize: ") and word in text, (args, text)
    assert not os.path.exists("x.gguf")


def test_hostile():
    whole = content("f32.gguf")
    with open("cut.gguf", "wb") as f:
        f.write(whole[:len(whole) // 2])
    coffer("quantize", "cut.gguf", "x.gguf", "Q8_0", status=1)
    with open("named.gguf", "wb") as f:
        f.write(whole.replace(b"blk.1.ffn_up.weight", b"blk.1.\x1b[2\xffup.weight"))
    said = coffer("quantize", "named.gguf", "named-q.gguf", "Q8_0").stdout
    assert "blk.1.?[2?up.weight" in said and "\x1b" not in said, said
    with open("nan.gguf", "wb") as f:
        f.write(whole[:-64] + struct.pack("<16f", *[float("nan")] * 16))
    text = coffer("quantize", "nan.gguf", "x.gguf", "Q8_0", status=1).stderr
    assert "tensor output.weight: element" in text and "is not finite" in text, text
    with open("large.gguf", "wb") as f:
        f.write(whole[:-64] + struct.pack("<16f", *[1e6] * 16))
    text = coffer("quantize", "large.gguf", "x.gguf", "F16", status=1).stderr
    assert "is too large for F16" in text, text
    assert not os.path.exists("x.gguf")


def test_full_disk():
    """A limit on the size of files stands in for a full disk: the error is the same place's."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    with open("kept.gguf", "wb") as f:
        f.write(b"what was there")
    text = coffer("quantize", "f32.gguf", "kept.gguf", "Q8_0", status=1, preexec_fn=limit).stderr
    assert "cannot write" in text or "File too large" in text, text
    assert content("kept.gguf") == b"what was there"
    if os.path.exists("/dev/full"):
        text = coffer("quantize", "f32.gguf", "/dev/full", "Q8_0", status=1).stderr
        assert "No space left" in text, text
    assert not [name for name in os.listdir(".") if ".part-" in name]


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
