#!/usr/bin/python3
"""Trains the model that ships, from nothing: stories (stories.py), tokens (bpe.py), weights (model.py), file (gguf.py).

    tests/train/train.py [-o FOLDER] [--steps N] [--resume]

Writes stories.gguf and loss.csv into FOLDER (default build/train), and a checkpoint every 50 steps, from which --resume
goes on. Needs python3-torch, which nothing else here does. The model sees each story once, in rows of 288 tokens; its
length is a number of steps and not of minutes, so that the same command gives the same file: with the same version of
torch, its 2 threads and the same instruction set of the processor, bit for bit; elsewhere nearly so.
"""
import argparse
import concurrent.futures
import csv
import math
import os
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before torch loads it: a step is split by rows (gradients), not inside products
import numpy as np
import torch

import bpe
import gguf
import stories
from model import Llama, Shape
from muon import Muon

SEED, HELD_SEED = 1, 2  # of the stories that are trained on, and of those that never are
N_VOCAB_STORIES, N_HELD = 4000, 24
STEPS, ROWS, COLUMNS = 3000, 4, 288
THREADS = 2
WARMUP, PLAIN, FLOOR = 40, 0.5, 0.02  # steps of the ramp; share of the steps before the rates fall; what is left at the end
SHARP, MATRICES, OTHERS = 0.01, 0.02, 4e-3  # rates of queries and keys and of the other matrices (Muon), of the rest (AdamW)
DECAY = 0.1
EVERY = 50  # steps between checkpoints and held-out losses


def rate(step):
    """Share of the learning rates: a ramp, a plain, half a cosine."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    fall = max(0.0, step / STEPS - PLAIN) / (1 - PLAIN)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * fall))


class Stream:
    """The stories of one seed, one after the other, each behind <|endoftext|>: rows of ids, and where it stands."""

    def __init__(self, tokenizer, seed):
        self.tokenizer, self.seed, self.number, self.spare = tokenizer, seed, 0, []

    def rows(self, n_rows, n_columns):
        need = n_rows * n_columns + 1
        while len(self.spare) < need:
            self.spare += [0] + self.tokenizer.encode(stories.tell(self.seed, self.number))
            self.number += 1
        ids, self.spare = self.spare[:need], self.spare[need - 1 :]
        return torch.tensor([ids[r * n_columns : (r + 1) * n_columns + 1] for r in range(n_rows)])


def held_out_loss(model, tokenizer, n):
    """Nats per token over n whole stories, each alone: what follows <|endoftext|>, to the next one."""
    total, count = 0.0, 0
    with torch.no_grad():
        for text in stories.stories(HELD_SEED, 0, n):
            ids = torch.tensor([[0] + tokenizer.encode(text) + [0]])
            total += model.loss(ids).item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return total / count


def gradients(model, parameters, rows):
    """In a thread of its own. -> mean loss of these rows, its gradients."""
    torch.set_num_threads(1)
    loss = model.loss(rows)
    return loss.item(), torch.autograd.grad(loss, parameters)


def step_of(model, parameters, optimizers, rows, pool):
    """One step on these rows, one part of them per thread; the parts add up in their order. -> mean loss."""
    parts = list(pool.map(lambda part: gradients(model, parameters, part), rows.chunk(THREADS)))
    for i, p in enumerate(parameters):
        p.grad = sum(part[1][i] for part in parts) / len(parts)
    for optimizer, _ in optimizers:
        optimizer.step()
    return sum(part[0] for part in parts) / len(parts)


def optimizers_of(model):
    """Each with its rate."""
    matrices = [(name, p) for name, p in model.named_parameters() if p.dim() == 2 and "embd" not in name]
    sharp = [p for name, p in matrices if "attn_q" in name or "attn_k" in name]  # a step in these moves products of two matrices
    calm = [p for name, p in matrices if "attn_q" not in name and "attn_k" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() < 2 or "embd" in name]
    return [(Muon(sharp, SHARP, DECAY), SHARP), (Muon(calm, MATRICES, DECAY), MATRICES),
            (torch.optim.AdamW(others, OTHERS, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0), OTHERS)]


def tiny_shape():
    shape = Shape()
    shape.vocab, shape.dim, shape.layers, shape.heads, shape.kv_heads, shape.ffn = 320, 64, 2, 4, 2, 96
    return shape


def arguments():
    p = argparse.ArgumentParser(description="trains the model that ships")
    p.add_argument("-o", "--out", default="build/train", help="folder of the results")
    p.add_argument("--steps", type=int, default=STEPS, help="end after so many")
    p.add_argument("--resume", action="store_true", help="go on from FOLDER/checkpoint.pt")
    p.add_argument("--tiny", action="store_true", help="a model too small for sense, for a test of this script")
    return p.parse_args()


def main():
    a = arguments()
    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    shape = tiny_shape() if a.tiny else Shape()
    rows, every, n_held = (2, 2, 2) if a.tiny else (ROWS, EVERY, N_HELD)
    tokenizer = bpe.Tokenizer(bpe.train(list(stories.stories(SEED, 0, 50 if a.tiny else N_VOCAB_STORIES)), shape.vocab))
    stream, model = Stream(tokenizer, SEED), Llama(shape)
    optimizers, parameters = optimizers_of(model), list(model.parameters())
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    print(f"torch {torch.__version__}, {THREADS} threads, {sum(p.numel() for p in model.parameters())} parameters")
    checkpoint, curve, step = os.path.join(a.out, "checkpoint.pt"), [], 0
    if a.resume:
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        for (optimizer, _), state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        stream.number, stream.spare, curve, step = saved["number"], saved["spare"], saved["curve"], saved["step"]
    total, begin, first = 0.0, time.time(), step
    while step < a.steps:
        for optimizer, base in optimizers:
            optimizer.param_groups[0]["lr"] = base * rate(step)
        total += step_of(model, parameters, optimizers, stream.rows(rows, COLUMNS), pool)
        step += 1
        if step % every and step < a.steps:
            continue
        since = step - (curve[-1][0] if curve else 0)
        curve.append((step, step * rows * COLUMNS, stream.number, round(total / since, 4),
                      round(held_out_loss(model, tokenizer, n_held), 4)))
        total = 0.0
        speed = (step - first) * rows * COLUMNS / (time.time() - begin)
        print(f"step {step}: training {curve[-1][3]}, held out {curve[-1][4]}; {speed:.0f} tokens/s", flush=True)
        torch.save(dict(model=model.state_dict(), optimizers=[o.state_dict() for o, _ in optimizers], number=stream.number, spare=stream.spare,
                        curve=curve, step=step), checkpoint + ".part")
        os.replace(checkpoint + ".part", checkpoint)
    with open(os.path.join(a.out, "loss.csv"), "w", newline="") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["step", "tokens", "stories", "training_loss", "held_out_loss"])
        table.writerows(curve)
    weights = {name: p.detach().numpy().astype(np.float32) for name, p in model.named_parameters()}
    gguf.write(os.path.join(a.out, "stories.gguf"), shape, tokenizer, weights)


if __name__ == "__main__":
    sys.exit(main())
