#!/usr/bin/python3
"""loading.py COFFER FAIL_PREAD: what goes wrong while the weights are read: the disk fails, the file shrinks, there is no
memory. A message that names the thing at fault, exit status 1, for any number of ranks."""
import os, resource, sys, unittest

shim = os.path.abspath(sys.argv.pop(2))
from common import *

class Loading(Case):
    def failing(self, failure, *words, **more):
        self.env.update(LD_PRELOAD=shim, FAIL_HOW=failure, FAIL_AT=str(os.path.getsize(self.model) // 2))
        out, err = self.fails(1, *words, **more)
        self.assertEqual(out, b"")

    def test_disk_fails(self):
        for launcher in ({"ranks": 1}, {"ranks": 3}, {"ranks": 3, "how": "self"}):
            self.failing("error", r"model\.gguf: tensor \S+: Input/output error", "-n", "4", **launcher)

    def test_disk_fails_while_rank_0_waits_for_its_own(self):
        """Rank 0 speaks for all, but the launcher ends it before it has heard of the failure."""
        self.failing("slow 0", r"model\.gguf: tensor \S+: Input/output error", "-n", "4",
                     "-t", "1", "--layout", "tensor", ranks=2, how="self", limit=40)

    def test_file_shrinks(self):
        for launcher in ({"ranks": 1}, {"ranks": 3}, {"ranks": 3, "how": "self"}):
            self.failing("end", r"model\.gguf: tensor \S+: the file became shorter while it was open", "-n", "4", **launcher)

    def test_no_memory(self):
        """The planner sees a free gigabyte, but this process may not have it."""
        model = self.synth("large.gguf", "--layers", "8", "--dim", "1024", "--type", "f32")
        size = os.path.getsize(model)
        self.assertGreater(size, 200 << 20)
        p = subprocess.run(self.command("-n", "4", "-t", "1", model=model), env=self.env, capture_output=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertRegex(p.stderr, rb"coffer run: cannot map [0-9.]+ GiB: Cannot allocate memory")

    def test_direct_refused(self):
        """In /dev/shm there is nothing to bypass: that is said, and the run goes on."""
        path = os.path.join(self.shm, "model.gguf")
        shutil.copy(self.model, path)
        try:
            for words in (("--direct",), ("-dio",), ("--direct-io",)):
                for launcher in ({"ranks": 1}, {"ranks": 2}):
                    status, out, err = self.run_to_end("-n", "4", *words, model=path, **launcher)
                    self.assertEqual(status, 0, err)
                    self.assertRegex(err, r"--direct is not possible, the page cache is used: .*model\.gguf: no direct reads: the file lies in memory")
        finally:
            os.unlink(path)

if __name__ == "__main__":
    main()
