#!/usr/bin/python3
"""The references themselves against what llama.cpp answered in float32: answers.py ORACLE MODELS.

ORACLE holds NAME.json and the logits after each prompt, NAME.pK.f32; MODELS the files. Two engines that compute the same
formulas in float32 differ by the order of their sums, 1e-4 of a logit at most; ggml takes Gemma's GELU from a table in F16,
which costs it two digits more."""
import glob
import json
import os
import sys

import numpy as np

from architectures import ARCHITECTURES, Model
from gguf_file import Gguf

BOUND, BOUND_GELU = 1e-4, 2e-2
oracle, models = sys.argv[1:3]
failed = 0
for path in sorted(glob.glob(os.path.join(oracle, "*.json"))):
    with open(path) as file:
        want = json.load(file)
    gguf = Gguf(os.path.join(models, want["model"]))
    if gguf.keys["general.architecture"] not in ARCHITECTURES:
        continue
    model, worst = Model(gguf), 0.0
    for k, prompt in enumerate(want["prompts"]):
        answer = np.fromfile(f"{path[:-5]}.p{k}.f32", np.float32)
        worst = max(worst, float(np.abs(model.logits(prompt["prompt_ids"])[-1, : len(answer)] - answer).max()))
    good = worst <= (BOUND_GELU if model.family.scaled_embedding else BOUND)
    print(f"{os.path.basename(path)[:-5]:26} {model.name:10} worst {worst:.2e}" + ("" if good else "  FAIL"), flush=True)
    failed += not good
sys.exit(1 if failed else 0)
