#!/usr/bin/env python3
"""bed_test.py [SWITCH...]: does deploy/testbed/hosts do what it says? Datagrams between two hosts, echoed: how long they
take, how many arrive, under delay, rate, loss, cuts, links that are down and crashes. Without a name: every switch that
works here. Status 77: skipped, and why."""
import os
import subprocess
import sys
import time
import unittest

here = os.path.dirname(os.path.abspath(__file__))
hosts = os.path.join(here, "../../deploy/testbed/hosts")
ENV = {**os.environ, "HOSTS_STATE": f"/tmp/coffer-bed-{os.getpid()}"}
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
s.bind(("", 7))
while True:
    data, who = s.recvfrom(2000)
    try: s.sendto(data, who)
    except OSError: pass
"""
# HOST N SIZE TRAIN PATIENCE: prints how many of N datagrams of SIZE bytes came back, sent in trains of TRAIN, and the
# shortest time in ms that a train took there and back.
ASK = """
import socket, sys, time
n, size, train = map(int, sys.argv[2:5])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[5]))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
s.connect((sys.argv[1], 7))
got, best = 0, 1e9
for k in range(n // train):
    began = time.time()
    for i in range(train):
        try: s.send(bytes(size))
        except OSError: pass
    try:
        for i in range(train):
            s.recv(2000)
            got += 1
        best = min(best, time.time() - began)
    except OSError:
        pass
print(got, 1000 * best)
"""


def bed(*words):
    p = subprocess.run([hosts, *words], env=ENV, capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError(f"hosts {' '.join(words[:3])}: status {p.returncode}: {p.stderr}")
    return p.stdout


def ask(n=20, size=100, train=1, patience=0.4):
    """(how many came back, shortest time of a train in ms)"""
    got, best = bed("exec", "h1", "python3", "-c", ASK, "h2", str(n), str(size), str(train), str(patience)).split()
    return int(got), float(best)


def answers():
    """Does h2 answer? A link that comes back needs a moment until the hosts have found each other again."""
    end = time.time() + 20
    while time.time() < end:
        if ask(1, patience=2)[0]:
            return True
    return False


servers = []


def serve(host="h2"):
    servers.append(subprocess.Popen([hosts, "exec", host, "python3", "-c", ECHO], env=ENV, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    end = time.time() + 10
    while not bed("exec", host, "ss", "-Hlun", "sport = 7") and time.time() < end:
        time.sleep(0.05)


class Bed(unittest.TestCase):
    up = ()

    def setUp(self):
        bed("up", "2", *self.up)
        serve()

    def tearDown(self):
        bed("down")
        while servers:
            servers.pop().wait(10)  # also those that a crash has stopped
        self.assertFalse(os.path.exists(ENV["HOSTS_STATE"]))


class Plain(Bed):
    def test_failures(self):
        """Each fault loses everything, and is undone."""
        for fault, remedy in (("cut", "mend"), ("linkdown", "linkup"), ("crash", "boot")):
            with self.subTest(fault):
                bed(fault, "h2")
                self.assertEqual(ask(2)[0], 0)
                bed(remedy, "h2")
                if fault == "crash":
                    self.assertEqual(bed("pids", "h2", "python3"), "", "a process has outlived the crash")
                    serve()
                self.assertTrue(answers())

    def test_hosts_are_apart(self):
        """Own names, processes, /dev/shm and temporary folder; the files of the machine."""
        self.assertEqual(bed("exec", "h2", "hostname").strip(), "h2")
        bed("exec", "h2", "touch", "/dev/shm/mine", ENV["HOSTS_STATE"] + "/tmp/mine")
        self.assertEqual(bed("exec", "h1", "ls", "/dev/shm", ENV["HOSTS_STATE"] + "/tmp").split(), ["/dev/shm:", ENV["HOSTS_STATE"] + "/tmp:"])
        with open(__file__) as f:
            source = f.read()
        self.assertEqual(bed("exec", "h2", "cat", __file__), source)
        pids = bed("pids", "h2", "python3").split()
        self.assertEqual(len(pids), 1)
        os.kill(int(pids[0]), 9)
        self.assertEqual(ask(2)[0], 0)

    def test_straggler(self):
        spin = ["python3", "-c", "import time; b = time.time(); [None for i in range(3 * 10**6)]; print(time.process_time() / (time.time() - b))"]
        try:
            bed("slow", "h2", "10")
        except RuntimeError as e:
            self.skipTest(str(e))
        self.assertLess(float(bed("exec", "h2", *spin)), 0.2)
        self.assertLess(float(bed("exec", "h2", *spin)), 0.2)
        bed("slow", "h2", "none")

    def test_mistakes(self):
        for words, says in ((("up", "2"), "is there already"), (("exec", "h9", "true"), "no host h9"), (("shape", "h2", "--delay", "3"), "us or ms"),
                            (("cut", "h7"), "no host h7"), (("shape", "h2", "--loss", "1"), "without --delay"), (("slow", "h1", "x"), "PERCENT")):
            p = subprocess.run([hosts, *words], env=ENV, capture_output=True, text=True)
            self.assertNotEqual(p.returncode, 0, words)
            self.assertIn(says, p.stderr)


class Rate(Bed):
    up = ("--rate", "20mbit")

    def test_rate(self):
        """140 kB at 20 Mbit/s take 56 ms, less the first 64 kB, which a bucket lets pass at once."""
        got, best = ask(300, 1400, 100, 2)
        self.assertEqual(got, 300)
        self.assertTrue(25 < best < 200, best)
        bed("shape", "h2", "--rate", "1gbit")
        bed("shape", "h1", "--rate", "1gbit")
        self.assertLess(ask(500, 1400, 100, 2)[1], 25)


class Switch:
    """One of those that can delay."""

    def test_link(self):
        got, best = ask(patience=2)
        self.assertEqual(got, 20)
        self.assertGreater(best, 20)  # there and back
        self.assertLess(best, 30)
        got, best = ask(280, 1400, 140, 2)
        self.assertEqual(got, 280)
        self.assertGreater(best, 20 + 75)
        bed("shape", "h2", "--delay", "40ms", "--loss", "50")
        got, best = ask(40, patience=0.2)
        self.assertGreater(best, 50)  # half of each one's delay
        self.assertLess(best, 60)
        self.assertTrue(5 <= got <= 35, got)
        bed("crash", "h2")
        self.assertEqual(ask(2)[0], 0)
        bed("boot", "h2")
        serve()
        self.assertTrue(answers())
        got, best = ask(patience=2)
        self.assertEqual(got, 20)
        self.assertLess(best, 30)


LINK = ("--delay", "10ms", "--rate", "20mbit", "--switch")


class Vswitch(Switch, Bed):
    up = (*LINK, "vswitch")


class Netem(Switch, Bed):
    up = (*LINK, "netem")

    def setUp(self):
        if subprocess.run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], capture_output=True).returncode:
            self.skipTest("this kernel has no netem")
        super().setUp()


if __name__ == "__main__":
    check = subprocess.run([hosts, "check"], capture_output=True, text=True)
    if check.returncode == 77:
        print("skipped:", check.stdout.strip())
        sys.exit(77)
    unittest.main(verbosity=1)
