#!/usr/bin/env python3
"""roofline.py [--ghz CLOCK] RATES... > node/kernels/roofline.svg: draws what product_rate measured.

    for i in 1 2 3; do BUILD/tests/product_rate 1 avx512; done > rates.txt
    python3 tests/bandwidth/roofline.py rates.txt > node/kernels/roofline.svg

RATES are outputs of product_rate with one thread; of several runs the best of each figure counts. `--table` prints the
table of node/kernels/README.md instead, from the same figures. `--ghz` adds the line of the two vector ports, for whom
knows the clock while they work: 5.5 cycles a block and row, 6 with a minimum, 7 for Q6_K.

A panel per type: activation rows that share a block, against billions of multiplications and additions per second. The line
of memory is the plain sum's rate over the block's bytes, n rows at a time; the curve is the product out of the second-level
cache; no product can be above either."""
import argparse
import math
import sys

PANELS = {"Q8_0": 5.5, "Q4_0": 5.5, "Q4_K": 6, "Q6_K": 7}  # cycles of two ports
TABLE = ["Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "F32", "F16", "BF16"]
OPS = 2 * 16 * 32  # of a block and an activation row
ROWS, GOPS = (1, 48), (25, 1000)  # what the axes show
WIDE, HIGH = 340, 200  # of a panel
MEMORY, CACHE, PORTS, INK, GRID = "#bc4c00", "#0969da", "#6e7781", "#1f2328", "#d8dee4"


def read(names):
    """Of each type: bytes of a block, GB/s of the plain sum and of the product of one row, {rows: ns per block and row}."""
    best, counts = {}, []
    for name in names:
        for line in open(name):
            word = line.split()
            if word[:1] == ["/block"]:
                counts = [int(w) for w in word[4:-1]]
            elif len(word) == 7 + len(counts) and word[0] != "isa":
                size, plain, stream, _, *each = map(float, word[2:-1])
                _, old_plain, old_stream, old_each = best.get(word[1], (size, 0, 0, each))
                best[word[1]] = size, max(plain, old_plain), max(stream, old_stream), list(map(min, each, old_each))
    if not best:
        sys.exit("roofline.py: no line of product_rate in " + ", ".join(names))
    return {t: (*b[:3], dict(zip(counts, b[3]))) for t, b in best.items()}


def table(rates):
    for name in TABLE:
        size, plain, stream, each = rates[name]
        cells = [name, f"{size:.0f}", f"{stream:.2f}", f"{100 * stream / plain:.1f} %"]
        print("| " + " | ".join(cells + [f"{each[n]:.2f}" for n in (1, 4, 8, 16, 48)]) + " |")


def x_of(rows):
    return WIDE * math.log(rows / ROWS[0]) / math.log(ROWS[1] / ROWS[0])


def y_of(gops):
    return HIGH * (1 - math.log(gops / GOPS[0]) / math.log(GOPS[1] / GOPS[0]))


def path(points):
    return "M" + "L".join(f"{x_of(n):.0f} {y_of(g):.1f}" for n, g in points)


def meeting(memory, curve):
    """Rows at which the line of memory reaches the curve; between two measurements as the drawing has it, straight."""
    for (n0, g0), (n1, g1) in zip(curve, curve[1:]):
        a, b = math.log(g0 / (memory * n0)), math.log(g1 / (memory * n1))
        if a > 0 >= b:
            rows = n0 * (n1 / n0) ** (a / (a - b))
            return rows, memory * rows
    return None


def text(x, y, words, anchor="middle", style=""):
    return f'    <text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{words}</text>'


def panel(name, rate, ghz):
    size, plain, stream, each = rate
    memory = OPS * plain / size  # GOPS of one row
    curve = [(n, OPS / ns) for n, ns in each.items()]
    met = meeting(memory, curve)
    out = [text(0, -9, name, "start", ' font-size="15" font-weight="600"')]
    for n in (1, 2, 4, 8, 16, 32, 48):
        out.append(f'    <path d="M{x_of(n):.1f} 0V{HIGH}" stroke="{GRID}"/>')
        if n != 32:
            out.append(text(x_of(n), HIGH + 17, n))
    for g in (25, 50, 100, 200, 400, 800):
        out += [f'    <path d="M0 {y_of(g):.1f}H{WIDE}" stroke="{GRID}"/>', text(-7, y_of(g) + 4, g, "end")]
    last = min(ROWS[1], GOPS[1] / memory)
    line = [(1, memory), (last, memory * last)]
    if met:
        under = [line[0], met] + [p for p in curve if p[0] > met[0]]
        out.append(f'    <path d="{path(under)}V{HIGH}H0Z" fill="{CACHE}" fill-opacity="0.08"/>')
    out.append(f'    <path d="{path(line)}" fill="none" stroke="{MEMORY}" stroke-width="2"/>')
    if ghz:
        top = OPS * ghz / PANELS[name]
        out.append(f'    <path d="{path([(ROWS[0], top), (ROWS[1], top)])}" stroke="{PORTS}" stroke-width="1.5" stroke-dasharray="6 4"/>')
    out.append(f'    <path d="{path(curve)}" fill="none" stroke="{CACHE}" stroke-width="2"/>')
    out += [f'    <circle cx="{x_of(n):.1f}" cy="{y_of(g):.1f}" r="3.5" fill="{CACHE}"/>' for n, g in curve]
    out.append(f'    <circle cx="0" cy="{y_of(OPS * stream / size):.1f}" r="5" fill="#ffffff" stroke="{MEMORY}" stroke-width="2.5"/>')
    right = [f"one row: {stream:.1f} GB/s, {100 * stream / plain:.0f} % of a plain sum", f"from cache, 48 rows: {curve[-1][1]:.0f} GOPS"]
    if met:
        right.insert(1, f"memory is the limit up to {met[0]:.0f} rows")
    out += [text(WIDE - 8, HIGH - 10 - 18 * (len(right) - 1 - i), words, "end") for i, words in enumerate(right)]
    return out


def figure(rates, ghz):
    left, top, across, down = 72, 82, WIDE + 80, HIGH + 72
    width, height = left + 2 * across - 52, top + 2 * down
    print(f'''<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"
     font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12.5" fill="{INK}">
  <title>Roofline of the AVX-512 products: GOPS by activation rows that share a block</title>
  <!-- made by tests/bandwidth/roofline.py -->
  <rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>''')
    x = 24
    signs = [(f'<path d="M{{0}} 26h26" stroke="{MEMORY}" stroke-width="2"/>', "bound of memory", 176),
             (f'<circle cx="{{1}}" cy="26" r="5" fill="#ffffff" stroke="{MEMORY}" stroke-width="2.5"/>', "one row, from memory", 212),
             (f'<path d="M{{0}} 26h26" stroke="{CACHE}" stroke-width="2"/><circle cx="{{1}}" cy="26" r="3.5" fill="{CACHE}"/>',
              "from the second-level cache", 248)]
    if ghz:
        signs.append((f'<path d="M{{0}} 26h26" stroke="{PORTS}" stroke-width="1.5" stroke-dasharray="6 4"/>', f"two ports, {ghz:g} GHz", 0))
    for sign, words, advance in signs:
        print("    " + sign.format(x, x + 13))
        print(text(x + 34, 30, words, "start"))
        x += advance
    for i, name in enumerate(PANELS):
        print(f'  <g transform="translate({left + i % 2 * across} {top + i // 2 * down})">')
        print("\n".join(panel(name, rates[name], ghz)) + "\n  </g>")
    for i in range(2):
        print(text(left + i * across + WIDE / 2, height - 16, "activation rows that share a block"))
        y = top + i * down + HIGH / 2
        print(text(22, y, "GOPS, one core", "middle", f' transform="rotate(-90 22 {y:g})"'))
    print("</svg>")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rates", nargs="+")
    p.add_argument("--ghz", type=float)
    p.add_argument("--table", action="store_true")
    a = p.parse_args()
    rates = read(a.rates)
    if a.table:
        table(rates)
    else:
        figure(rates, a.ghz)


main()
