#!/usr/bin/env python3
"""compare.py COFFER STREAM_SUM THREADS: is the read bandwidth that `coffer bench` prints that of a plain streaming sum,
within 3 %? Both run three times, by turns; the best of each counts. Run it by hand on a quiet machine."""
import json
import subprocess
import sys

coffer, stream_sum, threads = sys.argv[1:4]
ours, plain = [], []
for _ in range(3):
    out = subprocess.run([coffer, "bench", "--synthetic", "llama-15m", "-p", "0", "-n", "1", "-r", "1", "--ranks", "1", "-t",
                          threads, "-o", "json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    ours.append(json.loads(out)["tests"][0]["ranks"][0]["bandwidth_gbps"])
    plain.append(float(subprocess.run([stream_sum, threads], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout))
ratio = max(ours) / max(plain)
print(f"coffer bench {max(ours):.2f} GB/s, plain sum {max(plain):.2f} GB/s, ratio {ratio:.3f}")
sys.exit(0 if abs(ratio - 1) <= 0.03 else 1)
