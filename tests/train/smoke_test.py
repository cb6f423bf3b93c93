#!/usr/bin/python3
"""The training script from end to end in seconds, on a model too small for sense. Exit 77: torch is not installed, which
nothing but training needs."""
import os
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: torch is not installed (python3-torch)")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference")]


def train(folder, *arguments):
    subprocess.run([sys.executable, os.path.join(HERE, "train.py"), "--tiny", "-o", folder, *arguments], check=True,
                   stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "stories.gguf"), "rb") as f:
        return f.read()


def faithful(folder):
    """The file's weights are the model's to half a step of 8 bits, and mean to another reader what they mean to torch."""
    import numpy as np

    from architectures import Model
    from gguf_file import Gguf
    from model import Llama
    from train import tiny_shape

    file = Gguf(os.path.join(folder, "stories.gguf"))
    trained = torch.load(os.path.join(folder, "checkpoint.pt"))["model"]
    rounded = {name: torch.tensor(file.tensor(name)).view_as(w) for name, w in trained.items()}
    steps = max(((rounded[name] - w).abs().max() / w.abs().max()).item() * 127 for name, w in trained.items())
    model = Llama(tiny_shape())
    model.load_state_dict(rounded)
    ids = [0, 40, 50, 60, 70, 80] * 8
    ours, theirs = model(torch.tensor([ids]))[0].detach().numpy(), Model(file).logits(ids, True)
    difference = np.abs(ours - theirs).max() / np.abs(ours).max()
    print(f"weights are off by {steps:.3f} steps at most, logits by {difference:.1e} of the largest")
    return steps < 0.56 and difference < 1e-4


def main():
    with tempfile.TemporaryDirectory() as folder:
        whole = train(os.path.join(folder, "a"), "--steps", "6")
        again = train(os.path.join(folder, "b"), "--steps", "6")
        parted = train(os.path.join(folder, "c"), "--steps", "2") and train(os.path.join(folder, "c"), "--steps", "6", "--resume")
        facts = {"the same command gives the same file": whole == again, "a run that was interrupted gives it too": whole == parted,
                 "the file is the model": faithful(os.path.join(folder, "a"))}
    for fact, holds in facts.items():
        print(f"{'yes' if holds else 'NO '}  {fact}")
    return 0 if all(facts.values()) else 1


sys.exit(main())
