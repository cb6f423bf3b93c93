"""What a rank needs at most: its slices and its cache, 5 % and 128 MB; and what --direct leaves of the file in the page
cache: (almost) nothing, with the same answer."""
import ctypes
import mmap
import os
import re
import subprocess
import sys
import tempfile

import common

MB = 1e6
PAGE = mmap.PAGESIZE


def run(a, model, ranks, *options):
    """(peak bytes, bytes of weights and cache) of each rank, and stderr."""
    own = ["--ranks", "1"] if ranks == 1 else []
    command = [a.coffer, "run", "-m", model, "--prompt-ids", "1,2,3,4,5,6,7,8", "-n", "8", "--temp", "0", "--ignore-eos",
               "-t", "1", "--stats", "--json", "-c", "512"] + own + list(options)
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
    env, _ = common.environment({})
    if ranks > 1:
        env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    r = subprocess.run(command, env=env, capture_output=True, timeout=200)
    text = r.stderr.decode(errors="replace")
    peaks = [float(x) * 2**20 for x in re.findall(r"peak ([0-9.]+) MiB", text)]
    held = [0] * ranks
    for rank, size in re.findall(r"^ *(\d+) .* (?:PREFRONTAL|\w+_HEMI|TEMPORAL) +\d+ +(\d+)", text, re.M):
        held[int(rank)] += int(size)
    loaded = re.findall(r"rank (\d+) .*: loaded ([0-9.]+) GB in [0-9.]+ s \([0-9.]+ GB/s\): read ", text)
    if r.returncode or len(peaks) != ranks or not any(held) or len(loaded) != ranks:
        sys.exit(f"exit {r.returncode}, {len(peaks)} peaks and {len(loaded)} loads of {ranks} ranks:\n{text[-4000:]}")
    answer = re.search(rb'"logits_xxh64":"[0-9a-f]+"', r.stdout).group()
    return peaks, held, answer, text


def in_cache(path):
    """Bytes of the file that lie in the page cache (mincore)."""
    size = os.path.getsize(path)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with open(path, "rb") as f:
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
        pages = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
        assert libc.mincore(at, size, pages) == 0, os.strerror(ctypes.get_errno())
        libc.munmap(at, size)
    return PAGE * sum(x & 1 for x in pages.raw[:(size + PAGE - 1) // PAGE])


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def peak_is_bounded(a, model):
    answers = set()
    # The layouts by name: what auto chooses depends on what the machine does meanwhile.
    runs = ((1,), (1, "--direct"), (4, "--layout", "tensor", "--direct"), *((n, "--layout", layout, *how) for n in (2, 3, 4)
            for layout in ("tensor", "layers", "domain") for how in ((), ("--exchange", "messages"))))
    for ranks, *options in runs:
        peaks, held, answer, _ = run(a, model, ranks, *options)
        answers.add(answer)
        print(ranks, "ranks", *options, "peak MB", [f"{p / MB:.0f}" for p in peaks], "of", [f"{h / MB:.0f}" for h in held])
        for rank, (p, h) in enumerate(zip(peaks, held)):
            assert p >= h, f"rank {rank}: {p} bytes at most, but it holds {h}"
            assert p <= 1.05 * h + 128 * MB, f"rank {rank} of {ranks}: {p} bytes at the peak for {h} of weights and cache"
    assert len(answers) == 1, answers


def direct_leaves_nothing(a, model):
    size = os.path.getsize(model)
    drop(model)
    if in_cache(model) > 0.01 * size:
        print("the page cache does not let go of the file here: not tested")
        return
    for _ in range(3):
        _, _, plain, _ = run(a, model, 1)
        stays = in_cache(model)
        if stays > 0.95 * size:
            break
    else:
        # The kernel gives pages away where memory is short. Whose doing it was says a reader who holds as much himself.
        with open(model, "rb") as f:
            held = [f.read(), b"x" * (128 << 20)]
        here = in_cache(model)
        del held
        assert here <= 0.95 * size, f"without --direct the file should stay in the page cache: {stays} of {size} bytes did"
        print(f"of {size} bytes that were read the page cache keeps {here} here: what stays without --direct is not tested")
    for ranks in (1, 3):  # three cut the columns of matrices: those go through the cache
        drop(model)
        _, _, answer, text = run(a, model, ranks, "--direct-io" if ranks == 1 else "-dio", "--layout", "tensor")
        assert answer == plain, "--direct changes the answer"
        if "--direct is not possible" in text:
            print("no direct reads on this file system: that it is said is all that was tested")
            return
        left = in_cache(model)
        print(f"--direct on {ranks} ranks leaves {left} of {size} bytes in the page cache")
        assert left <= 0.01 * size, f"--direct left {left} of {size} bytes in the page cache"


def main():
    a, clock = common.arguments(), common.Clock()
    with tempfile.TemporaryDirectory(dir=a.models) as folder:
        model = os.path.join(folder, "large.gguf")
        common.synth(a.coffer, model, common.LARGE)
        if not a.quick:  # the sanitizers' own memory is no measure
            peak_is_bounded(a, model)
        direct_leaves_nothing(a, model)
    print(f"done, {clock}")


main()
