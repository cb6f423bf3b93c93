"""--layout auto, the default: the same bits as one rank whatever it takes, on 1 to 4 ranks that count as 1 or 2 hosts; a rank
that it leaves out holds nothing and is named; a named layout uses all ranks; and every speed has its prediction beside it."""
import json
import os
import re
import subprocess
import tempfile

import common

a, clock = common.arguments(), common.Clock()


def run(path, n, hosts, *options):
    words = [a.coffer, "run", "-m", path, "--prompt-ids", ",".join(str(3 + i * 7 % 600) for i in range(40)), "-n", "9", "--temp", "0",
             "--ignore-eos", "--json", "-t", "1", *options]
    env, extra = common.environment({"COFFER_TEST_HOSTS": str(hosts)})
    env.update(extra, ASAN_OPTIONS="detect_leaks=0:" + env.get("ASAN_OPTIONS", ""))
    p = subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(n), "-x", "COFFER_TEST_HOSTS", *words], env=env,
                       capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout), p.stderr


def unused(said):
    named = re.search(r"not used: rank ([0-9, ]+);", said)
    return {int(r) for r in named.group(1).split(", ")} if named else set()


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        common.synth(a.coffer, path, "--layers 4 --dim 256 --heads 8 --kv-heads 2 --ffn 512 --vocab 650 --type q8_0")
        want, said = run(path, 1, 1)
        for n in (1, 2, 3, 4):
            for hosts in (1, 2) if n > 1 else (1,):
                got, said = run(path, n, hosts)
                assert (got["ids"], got["logits_xxh64"]) == (want["ids"], want["logits_xxh64"]), (n, hosts)
                assert re.search(r"prefill 40 tokens at [\d.]+ tokens/s \(predicted [\d.]+\), decode 8 tokens at [\d.]+ tokens/s "
                                 r"\(predicted [\d.]+\)", said), said
                left, bytes_of = unused(said), [r["bytes"] for r in got["plan"]["ranks"]]
                assert left != set(range(n)) and 0 not in left, (left, said)
                if left:  # no weights: less than whoever has some
                    least = min(b for r, b in enumerate(bytes_of) if r not in left)
                    assert all(bytes_of[r] < least for r in left), (left, bytes_of)
                print(f"{n} ranks on {hosts} hosts: {got['plan']['layout']}, without {sorted(left)}")
                for layout in ("tensor", "layers"):
                    got, said = run(path, n, hosts, "--layout", layout)
                    assert not unused(said) and got["plan"]["layout"] == layout
                    assert got["logits_xxh64"] == want["logits_xxh64"]
        got, said = run(path, 4, 2, "--verbose")
        assert len(re.findall(r"^[* ] (?:tensor|layers|hybrid|domain)\b.* on \d ranks? of \d hosts? ", said, re.M)) >= 6, said
        assert len(re.findall(r"^\* ", said, re.M)) == 1, said


main()
