#!/usr/bin/env python3
"""coffer tokenize from outside: texts to ids and back, on both kinds of synthetic vocabulary, and its refusals.

    tokenize_test.py build/coffer
"""
import pathlib
import subprocess
import sys
import tempfile

COFFER = sys.argv[1]
TEXT = "Once upon a time, na\u00efve \u65e5\u672c \U0001f4a9!\n\n  the end 12345"


def run(*args, stdin=b"", status=0):
    r = subprocess.run([COFFER, *map(str, args)], input=stdin, capture_output=True)
    assert r.returncode == status, (args, r.returncode, r.stderr)
    return r


def ids_of(model, *args, stdin=b""):
    return run("tokenize", "-m", model, "--ids", *args, stdin=stdin).stdout.decode().split()


def round_trips(folder, model):
    ids = ids_of(model, stdin=TEXT.encode())
    assert ids == ids_of(model, "-p", TEXT)
    (folder / "text").write_text(TEXT)
    assert ids == ids_of(model, "-f", folder / "text")
    assert ids[1:] == ids_of(model, "-p", TEXT, "--no-bos"), "the vocabularies of synth want a BOS"
    assert ids == ids_of(model, "-p", TEXT, "--special", "--no-parse-special"), "the last one counts"
    for list_of_ids in " ".join(ids), "[" + ", ".join(ids) + "]":
        assert run("tokenize", "-m", model, "--decode", stdin=list_of_ids.encode()).stdout.decode() == TEXT
    lines = run("tokenize", "-m", model, "-p", TEXT, "--show-count").stdout.decode().splitlines()
    assert [x.split()[0] for x in lines[:-1]] == ids and lines[-1].endswith(" %d" % len(ids))
    shown = run("tokenize", "-m", model, "--decode", "--special", "-p", ids[0]).stdout
    assert shown in (b"<s>", b"<|begin_of_text|>"), shown
    assert run("tokenize", "-m", model, "--decode", "-p", ids[0]).stdout == b""
    assert ids_of(model, "--special", "--no-bos", "-p", shown.decode()) == [ids[0]]
    assert len(ids_of(model, "--no-bos", "-p", shown.decode())) > 1


def refusals(folder, model):
    for bad in "12 x", "4294967296", "-1", "999999":
        assert b"--decode" in run("tokenize", "-m", model, "--decode", stdin=bad.encode(), status=2).stderr
    assert b"stdin" in run("tokenize", "-m", model, "text", status=2).stderr
    assert b"missing" in run("tokenize", "-m", model, "-f", folder / "missing", status=1).stderr


def pre_tokenizer(folder, model):
    """Renames keys and values in the file by others of the same length."""
    whole = model.read_bytes()
    assert whole.count(b"llama-bpe") == 1
    (folder / "unknown.gguf").write_bytes(whole.replace(b"llama-bpe", b"martian-9"))
    stderr = run("tokenize", "-m", folder / "unknown.gguf", "-p", "a", status=1).stderr
    assert b"martian-9" in stderr and b"qwen2" in stderr, stderr
    (folder / "unnamed.gguf").write_bytes(whole.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.erp"))
    r = run("tokenize", "-m", folder / "unnamed.gguf", "-p", "a")
    assert r.stdout and b"default" in r.stderr, r
    r = run("run", "-m", folder / "unnamed.gguf", "-p", "a", "-n", 1, "--ranks", 1)
    assert b"tokenizer.ggml.pre" in r.stderr, r


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for kind in "llama", "gpt2":
            model = folder / (kind + ".gguf")
            run("synth", "--arch", "llama", "--layers", 1, "--dim", 64, "--heads", 2, "--ffn", 128, "--vocab", 1000,
                "--tokenizer", kind, "-o", model)
            round_trips(folder, model)
            refusals(folder, model)
        pre_tokenizer(folder, folder / "gpt2.gguf")
    print("ok")


main()
