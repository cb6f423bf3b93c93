"""`coffer run --prompts`: every answer equals, with ==, that of a run of its own with the same seed: ids, text, hash of the
logits; alone or beside others, on any number of ranks, layout, chunk and number of sequences at once. And what is wrong with
a file is said before a model is loaded; after Ctrl-C and on a full disk finished answers are there; the end says how fast it
was beside what was predicted."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import common

a, clock = common.arguments(), common.Clock()
MODEL = os.path.join(a.models, "m_q8_0.gguf")
FILE = os.path.join(a.models, "prompts.jsonl")
N = 12
WORDS = "Lily saw a big red bird near the old tree and it sang of the sea".split()


def requests():
    """Prompts of 1 to some 150 tokens; some say how they want to be sampled, some end early."""
    out = []
    for i in range(7 if a.quick else 11):
        r = {"prompt": " ".join(WORDS[(i * 5 + k) % len(WORDS)] for k in range(1 + i * i)), "id": f"r{i}", "n_predict": 1 + (i * 7) % N}
        if i % 3 == 0:
            r.update(temperature=0)
        if i % 3 == 1:
            r.update(seed=100 + i, top_k=50, min_p=0.01, repeat_penalty=1.2, dry_multiplier=0.5)
        if i == 4:
            r.update(prompt=[5, 6, 7], n_predict=N, stop=["z", "e"])
        out.append(r)
    out.insert(2, {"prompt": "nothing", "n_predict": 0, "id": {"any": [1, None]}})
    return out


def single(r):
    """The run of its own."""
    options = ["--prompt-ids", ",".join(map(str, r["prompt"]))] if isinstance(r["prompt"], list) else ["-p", r["prompt"]]
    for key, value in r.items():
        if key == "stop":
            for text in value:
                options += ["--stop", text]
        elif key not in ("prompt", "id"):
            options += ["--" + key.replace("_", "-"), str(value)]
    got = json.loads(common.start(1, [a.coffer, "run", "-m", MODEL, "--ranks", "1", "--seed", "9", "--ignore-eos", "--json"] + options))
    return {k: got[k] for k in ("prompt_ids", "ids", "text", "logits_xxh64")}


def write(lines):
    with open(FILE, "w") as f:
        f.write("".join(line + "\n" for line in lines))


def answers(text):
    assert not text or text.endswith("\n"), text
    return [json.loads(line) for line in text.splitlines()]


def equal():
    asked = requests()
    want, count = [single(r) for r in asked], 0
    write([""] + [json.dumps(r) for r in asked])
    for ranks, options in ((1, "-np 1"), (1, ""), (1, "-np 3 -ub 7"), (2, "--layout tensor -np 4"), (2, "--layout layers"),
                           (3, "--layout layers -np 5 -ub 16"), (3, "--layout tensor"), (3, "--layout domain -np 7")):
        if a.quick and ranks == 3 and "layers" not in options:
            continue
        head = ["--ranks", "1"] if ranks == 1 else []
        got = answers(common.start(ranks, [a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--seed", "9", "--ignore-eos", "--json", "-t",
                                           "1"] + head + options.split()))
        assert sorted(r["index"] for r in got) == list(range(len(asked))), got
        if options == "-np 1":
            assert [r["index"] for r in got] == list(range(len(asked)))  # one after the other
        for r in got:
            i = r["index"]
            same = {k: r[k] for k in want[i]} == want[i]
            assert same, (ranks, options, asked[i], r, want[i])
            assert r["id"] == asked[i]["id"] and r["n_generated"] == len(r["ids"]) and r["n_prompt"] == len(r["prompt_ids"])
            assert r["seed"] == asked[i].get("seed", 9) and r["end"] in ("limit", "stop"), r
            assert (r["end"] == "limit") == (len(r["ids"]) == asked[i]["n_predict"]) or r["end"] == "stop", r
            count += 1
    # Without --json the answers are short, and go where -o says.
    out = FILE + ".out"
    stdout = common.start(1, [a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--seed", "9", "--ignore-eos", "--ranks", "1", "-o", out])
    with open(out) as f:
        short = answers(f.read())
    assert stdout == "" and {r["index"]: r["text"] for r in short} == {i: w["text"] for i, w in enumerate(want)}
    assert "ids" not in short[0] and "logits_xxh64" not in short[0]
    return count


def full_context():
    write(['{"prompt": "Lily", "n_predict": -1}'] * 3)
    got = answers(common.start(1, [a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--ranks", "1", "-c", "20", "--ignore-eos"]))
    assert len(got) == 3 and all(r["end"] == "context" and r["n_prompt"] + r["n_generated"] == 21 for r in got), got


def told():
    """Prediction beside measurement, and with --stats the table of all ranks, also where the supervisor passes them on. Nothing
    is foretold of answers that nobody wanted."""
    env, _ = common.environment({})
    env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    speed = re.compile(r"^load [0-9.]+ s, (\d+) prompts of (\d+) tokens, (\d+) tokens generated in [0-9.]+ s at ([0-9.]+) tokens/s(?: \(predicted ([0-9.]+)\))?, (\d+) sequences at once$", re.M)
    for ranks, n, options in ((1, 5, []), (2, 5, ["--stats", "--layout", "layers"]), (1, 0, ["--stats"])):
        write([json.dumps({"prompt": [3] * (40 + i), "n_predict": n}) for i in range(6)])
        r = subprocess.run([a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--ranks", str(ranks), "-t", "1", "-np", "4", "--ignore-eos",
                            "-o", FILE + ".out"] + options, env=env, capture_output=True, text=True, timeout=300)
        said = speed.findall(r.stderr)
        assert r.returncode == 0 and len(said) == 1, r
        prompts, prompt, generated, measured, predicted, at_once = said[0]
        assert (prompts, prompt, generated, at_once) == ("6", str(255 if n else 0), str(6 * n), "4"), said
        assert (float(measured) > 0 and float(predicted) > 0) if n else not predicted, said
        rows = re.findall(r"^ +(\d+) \S+ +\d+ LEFT_HEMI", r.stderr, re.M)
        assert rows == ([str(k) for k in range(ranks)] if "--stats" in options else []), r.stderr


def refused():
    for line, text in (('{"prompt": "a"', "not JSON"), ("[]", "not an object"), ('{"id": 1}', 'no "prompt"'), ('{"prompt": 1}', '"prompt" is'),
                       ('{"prompt": "a", "promt": 1}', '"promt" is unknown'), ('{"prompt": "a", "top_k": "1"}', '"top_k" is not a number'),
                       ('{"prompt": "a", "top_k": 0.5}', "not a whole number"), ('{"prompt": "a", "temperature": -1}', "out of range"),
                       ('{"prompt": "a", "n_predict": -2}', '"n_predict" is'), ('{"prompt": "a", "stop": [""]}', '"stop" is'),
                       ('{"prompt": [1, 99999]}', "token id 99999"), ('{"prompt": "' + "bird " * 600 + '"}', "the context holds"),
                       ('{"prompt": "a", "n_predict": 1, "max_tokens": 1}', "one of them"), ('{"prompt": "a", "id": 1, "id": 2}', "duplicate")):
        write(['{"prompt": "fine"}', "", line])
        r = subprocess.run([a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--ranks", "1", "-c", "512"], capture_output=True)
        assert r.returncode in (1, 2) and not r.stdout and b"loading" not in r.stderr, r
        assert (FILE + ":3: ").encode() in r.stderr and text.encode() in r.stderr, (line, r)
    write([""])
    for options, text in ((["--prompts", FILE], "no prompts"), (["--prompts", FILE + ".none"], "No such file"),
                          (["--prompts", FILE, "-p", "x"], "--prompts does not go together"), (["-p", "x", "-o", "y"], "-o is for --prompts"),
                          (["-p", "x", "-np", "2"], "--parallel is for --prompts")):
        r = subprocess.run([a.coffer, "run", "-m", MODEL, "--ranks", "1"] + options, capture_output=True)
        assert r.returncode in (1, 2) and text.encode() in r.stderr, r


def nothing_lost():
    """Ctrl-C: what is finished is there, and whole. A full disk is said."""
    write([json.dumps({"prompt": "Lily saw", "n_predict": 3 if i < 2 else 100000, "seed": i}) for i in range(4)])
    out = FILE + ".out"
    command = [a.coffer, "run", "-m", MODEL, "--prompts", FILE, "--ranks", "1", "-c", "100001", "--ignore-eos"]
    if os.path.exists(out):
        os.remove(out)  # those of an earlier run would be taken for this one's
    p = subprocess.Popen(command + ["-o", out], stderr=subprocess.PIPE)
    for _ in range(600):
        time.sleep(0.1)
        if os.path.exists(out) and open(out).read().count("\n") >= 2:
            break
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and b"interrupted: 2 of 4 prompts are answered" in err, (p.returncode, err)
    with open(out) as f:
        got = answers(f.read())
    assert sorted(r["index"] for r in got) == [0, 1], got
    write(['{"prompt": "Lily", "n_predict": 2}'] * 3)
    r = subprocess.run(command + ["-o", "/dev/full"], capture_output=True)
    assert r.returncode == 1 and b"cannot write the answers to /dev/full: No space left on device" in r.stderr, r
    with open("/dev/full", "w") as full:
        r = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert r.returncode == 1 and b"No space left on device" in r.stderr, r


count = equal()
full_context()
told()
refused()
nothing_lost()
print(f"{count} answers equal, {clock}")
