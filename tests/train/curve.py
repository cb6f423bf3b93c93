#!/usr/bin/python3
"""Draws loss.csv of train.py as an SVG: curve.py loss.csv > loss.svg. Logarithmic loss over linear steps."""
import csv
import math
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 56, 16, 16, 44
LINES = [("training_loss", "#888", "training (mean since the last point)"), ("held_out_loss", "#06c", "held out")]
MARKS = [0.5, 0.7, 1, 1.5, 2, 3, 4, 6]


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(f)]
    values = [row[name] for row in rows for name, _, _ in LINES]
    low, high, last = math.log(min(values) * 0.95), math.log(max(values) * 1.02), rows[-1]["step"]
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda loss: TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log(loss)) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for mark in MARKS:
        if low < math.log(mark) < high:
            out.append(f'<path d="M{LEFT} {y(mark):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                       f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark}</text>')
    for i in range(0, 5):
        step = last * i / 4
        out.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{step:.0f}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">steps; nats per token</text>')
    for i, (name, color, label) in enumerate(LINES):
        points = " ".join(f"{x(row['step']):.1f},{y(row[name]):.1f}" for row in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
                   f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + 18 + 18 * i}" text-anchor="end" fill="{color}">{label}</text>')
    print("\n".join(out + ["</svg>"]))


main()
