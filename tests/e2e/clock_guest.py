# SPDX-License-Identifier: Apache-2.0
"""A guest whose clocks are read from outside: the stock kernel with one program (tests/guests/clock/clock.c) that answers on
the serial console. For tests/bench/clock and the scenario `clock`.
"""
import pathlib
import re
import select
import socket
import subprocess
import time

import harness

BOOT_SECONDS = 300
PAUSE_SECONDS = 0.02
APPEND = "console=ttyS0 quiet panic=-1"
SOURCE = pathlib.Path(__file__).resolve().parents[1] / "guests" / "clock" / "clock.c"
HOST_CLOCKS = {"CLOCK_MONOTONIC_RAW": time.CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC": time.CLOCK_MONOTONIC,
               "CLOCK_REALTIME": time.CLOCK_REALTIME}
# Against which of the host's clocks each of the guest's is compared.
PAIRS = [("REALTIME", "CLOCK_REALTIME"), ("MONOTONIC", "CLOCK_MONOTONIC"), ("RAW", "CLOCK_MONOTONIC_RAW")]


def host_ns():
    return {name: time.clock_gettime_ns(clock) for name, clock in HOST_CLOCKS.items()}


def build_initrd(folder):
    """An initramfs of one program."""
    root = folder / "initramfs"
    for name in ("proc", "sys"):
        (root / name).mkdir(parents=True)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-static", "-O2", "-pthread", "-o", root / "init", SOURCE], check=True)
    archive = folder / "clock.cpio"
    with open(archive, "wb") as stream:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=b"init\nproc\nsys\n", check=True,
                       stdout=stream)
    return archive


def cpu_ns(pid):
    """Host CPU time of all threads of a process."""
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in pathlib.Path(f"/proc/{pid}/task").iterdir())


def vmm_argv(program, guest, initrd, cpus, model="v2"):
    return [program, "--kernel", guest.kernel, "--initrd", initrd, "--append", APPEND, "--memory", "256M",
            "--cpus", cpus, "--cpu", model, "--log-level=warning"]


class Machine:
    """A guest that runs the clock program, with a line to it."""

    def __init__(self, argv):
        """argv: the words of a program whose console is standard input and output."""
        self.ours, theirs = socket.socketpair()
        self.buffer = b""
        self.process = subprocess.Popen([str(word) for word in argv], stdin=theirs, stdout=theirs)
        theirs.close()
        self.clocksource = self.answer(r"^clock ready (\S+)", BOOT_SECONDS).group(1)

    def answer(self, pattern, seconds):
        """The match of the next line that fits; what the kernel prints between is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                match = re.search(pattern, line.decode("utf-8", "replace").strip())
                if match:
                    return match
            if not select.select([self.ours], [], [], max(0, deadline - time.monotonic()))[0]:
                raise harness.Failure(f"no '{pattern}' within {seconds} s")
            block = self.ours.recv(4096)
            if not block:
                raise harness.Failure(f"the machine ended before '{pattern}'")
            self.buffer += block

    def ask(self, command, pattern, seconds=60):
        self.ours.sendall(command.encode() + b"\n")
        return self.answer(pattern, seconds)

    def offsets(self, seconds):
        """Guest minus host in ns for each pair of clocks: (lower, upper) bound from all exchanges within `seconds`."""
        bounds, end = None, time.monotonic() + seconds
        while bounds is None or time.monotonic() < end:
            before = host_ns()
            match = self.ask("stamp", r"^stamp (\d+) (\d+) (\d+) (\d+)$")
            after = host_ns()
            guest = dict(zip(("REALTIME", "MONOTONIC", "RAW"), map(int, match.groups())))
            here = {one: (guest[one] - after[other], guest[one] - before[other]) for one, other in PAIRS}
            bounds = {one: (max(low, bounds[one][0]), min(high, bounds[one][1])) if bounds else (low, high)
                      for one, (low, high) in here.items()}
            time.sleep(PAUSE_SECONDS)
        return bounds | {"at": after["CLOCK_MONOTONIC_RAW"]}

    def close(self):
        try:
            self.ours.sendall(b"quit\n")
            self.process.wait(60)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.ours.close()
