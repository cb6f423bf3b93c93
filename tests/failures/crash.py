#!/usr/bin/python3
"""crash.py COFFER SLOW_END: ranks that die, stop, or are merely slow. Everybody must end in time, and somebody must say why."""
import os, signal, sys, time, unittest

shim = os.path.abspath(sys.argv.pop(2))
from common import *

class Crash(Case):
    def hit(self, how, rank, number, *words):
        """Without a supervisor, which would go on (supervise.py)."""
        p = self.start(*ENDLESS, *words, *(("--no-supervise",) if how == "self" else ()), ranks=3, how=how)
        self.wait_for_text(p)
        os.kill(self.rank_pid(rank), number)
        began = time.time()
        status, out, err = self.end(p)
        self.assertNotEqual(status, 0, err)
        return err, time.time() - began

    def test_killed_rank(self):
        for how in ("own", "self"):
            for rank in range(3):
                with self.subTest(how=how, rank=rank):
                    err, _ = self.hit(how, rank, signal.SIGKILL)
                    if how == "self":
                        self.assertRegex(err, rf"coffer: rank {rank} on \S+ died: signal 9")
                    else:
                        self.assertRegex(err, rf"rank {rank} .*signal 9")  # mpirun's own words

    def test_stopped_rank(self):
        for how in ("own", "self"):
            for rank in range(3):
                with self.subTest(how=how, rank=rank):
                    err, took = self.hit(how, rank, signal.SIGSTOP, "--timeout", "2")
                    self.assertRegex(err, rf"coffer run: .*rank {rank} \([^)]*\) gave no sign of life for 2 s")
                    self.assertGreater(took, 1)

    def test_slow_rank_is_alive(self):
        """A prefill in one chunk that takes many times the time limit: heartbeats go out between the tiles."""
        model = self.synth("slow.gguf", "--layers", "6", "--dim", "512")
        ids = ",".join(str(5 + i % 900) for i in range(500))
        self.env["COFFER_ISA"] = "scalar"
        for layout in ("layers", "tensor"):
            with self.subTest(layout=layout):
                began = time.time()
                status, out, err = self.run_to_end("-n", "2", "--ignore-eos", "-ub", "500", "--layout", layout, "--timeout", "1", "-t", "1",
                    ranks=2, model=model, prompt=("--prompt-ids", ids), limit=120)
                self.assertEqual(status, 0, err)
                if time.time() - began < 3:
                    print(f"note: {layout}: this machine was too fast to prove much")

    def test_slow_end_is_no_failure(self):
        """The answer is there and all ranks agree that they are done, but one takes long to leave MPI."""
        self.env.update(LD_PRELOAD=shim, SLOW_END="11")
        began = time.time()
        status, out, err = self.run_to_end("-n", "4", "--ignore-eos", ranks=3, how="self", limit=30)
        self.assertGreater(time.time() - began, 11)
        self.assertEqual(status, 0, err)

    def test_what_follows_the_end_is_no_failure(self):
        """Rank 0 has said that all is well and is gone; then mpirun is killed, while another rank is still there: the answer is whole all the same."""
        self.env["XDG_STATE_HOME"] = self.dir
        words = ["--ignore-eos", "-n", "20", "--seed", "1"]
        status, want, err = self.run_to_end(*words)
        self.env.update(LD_PRELOAD=shim, SLOW_EXIT="20")
        p = self.start(*words, ranks=2, how="self")
        seen, end = False, time.time() + 15
        while time.time() < end:
            try:
                self.rank_pid(0)
                seen = True
            except AssertionError:
                if seen: break
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(self.alive("mpirun")[0], signal.SIGKILL)
        status, out, err = self.end(p)
        self.assertEqual((status, out), (0, want), err)
        self.assertNotIn("start 2", err)
        self.assertNotIn("journal", err)

    def test_waiting_ranks_sleep(self):
        """More ranks than cores, rank 0 does not answer: the others wait, and use next to no time for it."""
        p = self.start(*ENDLESS, ranks=4)
        self.wait_for_text(p)
        pids = [self.rank_pid(r) for r in range(4)]
        os.kill(pids[0], signal.SIGSTOP)
        time.sleep(0.5)
        ticks = lambda pid: sum(map(int, read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[11:13]))
        before = [ticks(pid) for pid in pids[1:]]
        time.sleep(3)
        used = [(ticks(pid) - b) / os.sysconf("SC_CLK_TCK") / 3 for pid, b in zip(pids[1:], before)]
        os.kill(pids[0], signal.SIGCONT)
        p.terminate()
        self.end(p)
        self.assertLess(max(used), 0.1, f"share of a core: {used}")

    def test_killed_front_leaves_nobody(self):
        p = self.start(*ENDLESS, ranks=3, how="self")
        self.wait_for_text(p)
        p.kill()
        p.communicate()  # the pipes close when the last rank has gone
        self.assertEqual(p.returncode, -signal.SIGKILL)

    def test_killed_launcher_leaves_nobody(self):
        for how in ("own", "self"):
            with self.subTest(how=how):
                p = self.start(*ENDLESS, "--no-supervise", ranks=3, how=how)
                self.wait_for_text(p)
                self.launcher_killed = True
                os.kill(self.alive("mpirun")[0], signal.SIGKILL)
                status, out, err = self.end(p)
                self.assertNotEqual(status, 0)

if __name__ == "__main__":
    main()
