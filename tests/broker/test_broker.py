#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real bulkhead and bulkheadd with stand-ins for the programs that the broker starts (fake_child.c).

usage: test_broker.py BULKHEAD BULKHEADD FAKES_FOLDER [CASE…]

Each case has a runtime directory of its own and must leave nothing in it: no process, no socket, no file.
"""
import array
import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BULKHEAD, BULKHEADD, FAKES = (os.path.abspath(word) for word in sys.argv[1:4])
LIMIT = 30  # seconds after which something that must happen has not; no test depends on how long it takes
CASES = []


def case(function):
    CASES.append(function)
    return function


def eventually(condition, what):
    end = time.monotonic() + LIMIT
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"never happened: {what() if callable(what) else what}"
        time.sleep(0.02)


def check(condition, what):
    assert condition, what


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Place:
    """A folder, the environment for it, and what was started there."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-broker-"))
        self.runtime = self.folder / "run"
        self.env = {**os.environ, "BULKHEAD_RUNTIME_DIR": str(self.runtime), "BULKHEAD_PROGRAM_DIR": FAKES,
                    "BULKHEAD_STATE_DIR": str(self.folder / "state"), "LC_ALL": "C.UTF-8"}
        self.env.pop("BULKHEAD_SANDBOX", None)
        self.started = []
        self.brokers = set()
        disk = self.folder / "disk.img"
        disk.write_bytes(b"")
        os.truncate(disk, 1 << 20)

    def script(self, name, *steps):
        path = self.folder / name
        text = "\n".join(["#fake", *steps]) + "\n"
        path.write_text(text)
        os.truncate(path, (len(text) + 511) // 512 * 512)
        return path

    def run(self, *words, stdin="", status=None):
        result = subprocess.run([BULKHEAD, *map(str, words)], env=self.env, input=stdin, text=True, cwd=self.folder,
                                capture_output=True, timeout=LIMIT, check=False)
        self.find_broker()
        if status is not None:
            check(result.returncode == status, f"{words}: status {result.returncode}, {result.stderr!r}")
        return result

    def spawn(self, *words, **settings):
        settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        process = subprocess.Popen([BULKHEAD, *map(str, words)], env=self.env, cwd=self.folder, **settings)
        self.started.append(process)
        return process

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        client.connect(str(self.runtime / "control.sock"))
        return client

    def find_broker(self):
        """The pid of the broker that serves now, if any."""
        try:
            with self.connect() as client:
                pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
        self.brokers.add(pid)
        return pid

    def machines(self):
        return json.loads(self.run("ps", "--json", status=0).stdout)

    def wait_machine(self, name, state="running"):
        def found():
            return next((m for m in self.machines() if m["name"] == name and m["state"] == state), None)
        machine = eventually(found, lambda: f"{name} {state}: {self.machines()}")
        self.find_broker()
        return machine

    def children(self):
        """Every process whose environment names this runtime directory (each of ours has it)."""
        mark = f"BULKHEAD_RUNTIME_DIR={self.runtime}\0".encode()
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    environment = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
                    if mark in environment + b"\0" and alive(entry):
                        found[int(entry)] = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ")
        return found

    def workers(self):
        return {pid: name for pid, name in self.children().items()
                if name.startswith((b"bulkhead-vmm", b"bulkhead-blk", b"bulkhead-net"))}

    def finish(self):
        self.find_broker()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
            process.wait()
        for broker in self.brokers:
            if alive(broker):
                os.kill(broker, signal.SIGTERM)
        for broker in self.brokers:
            eventually(lambda pid=broker: not alive(pid), "the broker's end")
        try:
            eventually(lambda: not self.children(), lambda: f"processes left: {self.children()}")
            left = [path.name for path in self.runtime.rglob("*")] if self.runtime.exists() else []
            check(not left, f"files left: {left}")
        finally:
            shutil.rmtree(self.folder)


# ---- life ------------------------------------------------------------------------------------------------------------

@case
def shutdown_gives_zero(place):
    """Broken if it fails: a guest that shut down looks like a failure, or its last words are cut."""
    result = place.run("run", "one", "--kernel", place.script("k", "say hello", "flood 300000", "say bye", "shutdown"),
                       status=0)
    check(result.stdout.startswith("hello\n") and result.stdout.endswith("bye\n"), result.stdout[-100:])
    check(len(result.stdout) >= 290000, f"{len(result.stdout)} bytes")
    check("accelerator jit (" in result.stderr, result.stderr)


@case
def failures_give_two_and_a_line(place):
    """Broken if it fails: somebody whose machine does not start is not told why."""
    good = place.script("good", "echo", "shutdown")
    bad_disk = place.script("bad-disk", "error the image is cursed")
    dead_disk = place.script("dead-disk", "exit 3")
    table = [
        (["--kernel", place.script("k1", "error kernel: not a bzImage")], ["k1", "not a bzImage"]),
        (["--kernel", place.script("k2", "stderr last words", "signal 10")], ["bulkhead-vmm", "signal 10", "last words"]),
        (["--kernel", place.script("k3", "exit 4")], ["status 4"]),
        (["--kernel", place.script("k4", "exit 0")], ["status 0"]),
        (["--kernel", place.script("k5", "ready", "panic the JIT lost its mind")], ["the JIT lost its mind"]),
        (["--kernel", place.script("k6", "ready", "garbage")], ["vmm_control"]),
        (["--kernel", place.script("k7", "ready", "exit 0")], ["status 0"]),
        (["--kernel", good, "--disk", bad_disk], ["bad-disk", "the image is cursed"]),
        (["--kernel", good, "--disk", dead_disk], ["dead-disk", "status 3"]),
        (["--kernel", good, "--disk", place.folder / "disk.img", "--disk", dead_disk], ["dead-disk"]),
        (["--kernel", good, "--disk", "disk.img", "--disk", "disk.img"], ["disk.img", "another --disk"]),
    ]
    for words, expected in table:
        result = place.run("run", "bad", *words, status=2)
        lines = [line for line in result.stderr.strip().split("\n") if "accelerator" not in line]
        check(len(lines) == 1, f"{words}: {result.stderr!r}")
        for word in expected:
            check(word in lines[0], f"{words}: no {word!r} in {lines[0]!r}")
        eventually(lambda: not place.workers(), lambda: f"{words}: left {place.workers()}")
        check(place.machines() == [], f"{words}: still listed")


@case
def missing_programs_are_named(place):
    """Broken if it fails: an incomplete installation is a riddle."""
    fakes = place.folder / "fakes"
    fakes.mkdir()
    shutil.copy(f"{FAKES}/bulkhead-vmm", fakes)
    (fakes / "bulkhead-blk").write_text("not a program")
    (fakes / "bulkhead-blk").chmod(0o755)
    place.env["BULKHEAD_PROGRAM_DIR"] = str(fakes)
    result = place.run("run", "--kernel", place.script("k", "echo"), "--disk", "disk.img", status=2)
    check("bulkhead-blk" in result.stderr and result.stderr.count("\n") == 1, result.stderr)


@case
def only_planned_fds(place):
    """Broken if it fails: a confined process holds a descriptor that is not its own."""
    result = place.run("run", "one", "--kernel", place.script("k", "fds", "args", "shutdown"), "--disk", "disk.img",
                       "--disk", f"{place.script('e', 'ready')},ephemeral", "--net", "user", status=0)
    fds = dict(re.findall(r"^fd (\d+) (\S+)", result.stdout, re.M))
    kinds = [re.sub(r"[\[:].*", "", target.replace(str(place.folder), "")) for target in fds.values()]
    # stdio; RAM, kernel, console, control, crash report, disk0, disk1, net0 (the ready pipe was closed by the child itself)
    check(kinds == ["/dev/null", "pipe", "pipe", "/memfd", "/k", "socket", "socket", "/memfd", *["socket"] * 3], f"{fds}")
    check(list(map(int, fds)) == list(range(11)), f"{fds}")
    check("--device=kind=net,fd=10,id=net0" in result.stdout, result.stdout)
    check("arg bulkhead-vmm[one/vmm]" in result.stdout, result.stdout)


@case
def crash_reports_are_kept(place):
    """Broken if it fails: a VMM that fails leaves no report, drives a terminal with it, or fills the disk."""
    crashes = place.folder / "state" / "crashes"
    crashes.mkdir(parents=True)
    for number in range(20):
        old = crashes / f"old-20200101T0000{number:02}Z.txt"
        old.write_text("old")
        os.utime(old, (number, number))
    result = place.run("run", "one", "--kernel", place.script("k", "ready", "crash"), status=2)
    path = pathlib.Path(re.search(r"crashed: report in (\S+)", result.stderr).group(1))
    check(path.parent == crashes and path.name.startswith("one-20"), f"{path}")
    text = path.read_bytes()
    check(text.startswith(b"Crash?[2J\nCrash?[2J\n") and len(text) <= 256 << 10, f"{text[:40]} {len(text)}")
    left = sorted(file.name for file in crashes.iterdir())
    check(len(left) == 16 and left[0] == "old-20200101T000005Z.txt", f"{left}")
    listed = place.run("ps", status=0).stdout
    check(f"crashed: one: report in {path}" in listed and "crashed: old" not in listed, listed)


@case
def stop_presses_then_forces(place):
    """Broken if it fails: `stop` loses a guest's data, or never ends a guest that hangs."""
    place.run("run", "polite", "--detach", "--kernel", place.script("k1", "echo", "shutdown"), status=0)
    check("shut down" in place.run("stop", "polite", status=0).stderr, "a guest that reacts")
    place.run("run", "deaf", "--detach", "--kernel", place.script("k2", "deaf"), status=0)
    check("forced off" in place.run("stop", "--timeout", "1", status=0).stderr, "a guest that does not")
    console = place.spawn("run", "deaf", "--kernel", place.script("k2", "deaf"))
    place.wait_machine("deaf")
    place.run("stop", "deaf", "--timeout", "0", status=0)
    check(console.wait(LIMIT) == 2 and b"forced off" in console.stderr.read(), "the foreground command's end")


@case
def kill_ends_every_state(place):
    """Broken if it fails: a machine that hangs while it starts or stops cannot be got rid of."""
    starting = place.spawn("run", "starting", "--kernel", place.script("k1", "silent"))
    place.wait_machine("starting", "starting")
    place.run("kill", "starting", status=0)
    check(starting.wait(LIMIT) == 2, "the one that starts")
    place.run("run", "stopping", "--detach", "--kernel", place.script("k2", "deaf"), status=0)
    stop = place.spawn("stop", "stopping", "--timeout", "1000")
    place.wait_machine("stopping", "stopping")
    place.run("kill", "stopping", status=0)
    check(stop.wait(LIMIT) == 0 and b"killed" in stop.stderr.read(), "the one that stops")


@case
def names(place):
    """Broken if it fails: two machines share a name, or a command hits the wrong one."""
    kernel = place.script("k", "echo", "shutdown")
    name = place.run("run", "--detach", "--kernel", kernel, status=0).stdout.strip()
    check(re.fullmatch(r"[a-z]+-[a-z]+", name), name)
    check(name in place.run("run", name, "--kernel", kernel, status=2).stderr, "the same name again")
    place.run("run", "second", "--detach", "--kernel", kernel, status=0)
    check("say which" in place.run("stop", status=2).stderr, "which of two")
    check("third" in place.run("stop", "third", status=2).stderr, "one that does not run")
    place.run("stop", name, status=0)
    place.run("stop", status=0)
    check("no machine runs" in place.run("stop", status=2).stderr, "none")


# ---- deaths ----------------------------------------------------------------------------------------------------------

@case
def vmm_killed(place):
    """Broken if it fails: kill -9 of a VMM leaves servers, locks or a hanging command."""
    console = place.spawn("run", "m", "--kernel", place.script("k", "deaf"), "--disk", "disk.img", "--net", "user")
    machine = place.wait_machine("m")
    pids = {process["name"]: process["pid"] for process in machine["processes"]}
    os.kill(pids["vmm"], signal.SIGKILL)
    check(console.wait(LIMIT) == 2, "status of the command")
    text = console.stderr.read().decode()
    check("bulkhead-vmm was ended by signal 9" in text, text)
    eventually(lambda: not any(map(alive, pids.values())), "the end of the servers")
    place.run("run", "m", "--detach", "--kernel", place.script("k", "deaf"), "--disk", "disk.img", status=0)
    place.run("kill", "m", status=0)


def process_of(place, name):
    return next(p for p in place.machines()[0]["processes"] if p["name"] == name)


@case
def server_killed(place):
    """Broken if it fails: a dead device server stays dead, takes the machine along, or its successor gets other fds."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "echo", "shutdown"), "--disk", "disk.img",
              "--net", "user", status=0)
    for victim in ("disk0", "net0"):
        before = place.wait_machine("m") and process_of(place, victim)
        for restarts in (1, 2, 3):
            old = process_of(place, victim)["pid"]
            os.kill(old, signal.SIGKILL)

            def back(name=victim, count=restarts, pid=old):
                process = process_of(place, name)
                return process["state"] == "running" and process["restarts"] == count and process["pid"] != pid
            eventually(back, f"restart {restarts} of {victim}")
        check(process_of(place, victim)["text"] == before["text"], "what it serves")
    check("shut down" in place.run("stop", "m", status=0).stderr, "the machine goes on")


@case
def server_in_crash_loop(place):
    """Broken if it fails: a server that cannot start burns the host, or does not come back once it can."""
    disk = place.script("disk.fake", "ready", "say x")
    place.run("run", "m", "--detach", "--kernel", place.script("k", "echo", "shutdown"), "--disk", str(disk), status=0)
    place.wait_machine("m")
    pathlib.Path(disk).write_text("#fake\nstderr the image is on fire\nexit 3\n")
    os.kill(process_of(place, "disk0")["pid"], signal.SIGKILL)

    def backing_off():
        process = process_of(place, "disk0")
        return process["state"] == "restarting" and "failures in a row" in process["text"] and process["text"]
    text = eventually(backing_off, "a pause between tries")
    check("the image is on fire" in text and "status 3" in text, text)
    check("restarting" in place.run("ps", status=0).stdout, "ps")
    pathlib.Path(disk).write_text("#fake\nready\n")
    eventually(lambda: process_of(place, "disk0")["state"] == "running", "its return")
    place.run("stop", "m", status=0)


@case
def successor_refused(place):
    """Broken if it fails: a successor that the VMM cannot work with is left running, or there is no other try."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "refuse 2", "echo", "shutdown"), "--disk", "disk.img",
              status=0)
    place.wait_machine("m")
    os.kill(process_of(place, "disk0")["pid"], signal.SIGKILL)
    eventually(lambda: process_of(place, "disk0")["restarts"] == 1, "the third successor")
    place.run("stop", "m", status=0)


@case
def server_that_cannot_be_replaced(place):
    """Broken if it fails: the VMM says that a loss is final, and the broker tries on or does not say so."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "ready", "failed 0", "echo", "shutdown"),
              "--disk", "disk.img", status=0)
    eventually(lambda: process_of(place, "disk0")["state"] == "lost", "the loss")
    check("did not track" in process_of(place, "disk0")["text"], "the cause")
    check("lost" in place.run("ps", status=0).stdout, "ps")
    check(process_of(place, "disk0")["pid"] == 0, "its process")
    place.run("stop", "m", status=0)


@case
def broker_killed(place):
    """Broken if it fails: kill -9 of the broker leaves processes that nobody can reach."""
    console = place.spawn("run", "m", "--kernel", place.script("k", "deaf"), "--disk", "disk.img", "--net", "user")
    place.wait_machine("m")
    os.kill(place.find_broker(), signal.SIGKILL)
    check(console.wait(LIMIT) == 2, "status of the command")
    check(b"lost the broker" in console.stderr.read(), "the command's words")
    eventually(lambda: not place.workers(), lambda: f"workers left: {place.workers()}")
    check(place.machines() == [], "without a broker there are no machines")
    place.run("run", "m", "--kernel", place.script("k2", "shutdown"), "--disk", "disk.img", status=0)  # starts anew


@case
def broker_ended(place):
    """Broken if it fails: SIGTERM (a system that goes down) pulls the guests' plugs."""
    console = place.spawn("run", "m", "--kernel", place.script("k", "echo", "say bye", "shutdown"))
    place.wait_machine("m")
    os.kill(place.find_broker(), signal.SIGTERM)
    check(console.wait(LIMIT) == 0 and console.stdout.read() == b"bye\n", "the guest's own end")


@case
def command_killed(place):
    """Broken if it fails: a foreground machine outlives its command unseen."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        console = place.spawn("run", "m", "--kernel", place.script("k", "echo", "say bye", "shutdown"))
        place.wait_machine("m")
        console.send_signal(number)
        console.wait(LIMIT)
        eventually(lambda: place.machines() == [], "the machine's end")
        if number != signal.SIGKILL:
            check(console.returncode == 0 and console.stdout.read() == b"bye\n", f"{number}: {console.returncode}")
    console = place.spawn("run", "m", "--kernel", place.script("k", "deaf"))
    place.wait_machine("m")
    console.send_signal(signal.SIGTERM)
    place.wait_machine("m", "stopping")
    console.send_signal(signal.SIGTERM)
    check(console.wait(LIMIT) == 2, "the second signal forces")


@case
def idle_broker_ends(place):
    """Broken if it fails: brokers pile up, or leave their socket."""
    ready, broker_end = os.pipe()
    broker = subprocess.Popen([BULKHEADD, f"--ready-fd={broker_end}", "--idle-ms=50", "--log-file"], env=place.env,
                              pass_fds=[broker_end])
    os.close(broker_end)
    with os.fdopen(ready, "rb") as stream:
        check(stream.read() == b"ready\n", "ready")
    check(broker.wait(LIMIT) == 0, "its end")
    check(not list(place.runtime.iterdir()), "files left")


@case
def one_broker_for_many(place):
    """Broken if it fails: commands that start at once get a broker each."""
    kernel = place.script("k", "say hi", "shutdown")
    processes = [place.spawn("run", f"m{i}", "--kernel", kernel) for i in range(8)]
    for process in processes:
        check(process.wait(LIMIT) == 0, process.stderr.read())
    check(sum(b"bulkheadd" in name for name in place.children().values()) == 1, f"{place.children()}")
    place.find_broker()


@case
def runtime_directory_is_checked(place):
    """Broken if it fails: in /tmp, somebody else's directory is trusted with our socket."""
    place.runtime.mkdir()
    place.runtime.chmod(0o755)
    result = place.run("ps", status=2)
    check("mode" in result.stderr and str(place.runtime) in result.stderr, result.stderr)
    place.runtime.rmdir()
    place.runtime.symlink_to("/tmp")
    check(place.run("ps", status=2).stderr.count("\n") == 1, "a symbolic link")
    place.runtime.unlink()


# ---- disks -----------------------------------------------------------------------------------------------------------

@case
def locks_name_the_holder(place):
    """Broken if it fails: two machines write one image, or nobody is told who holds it."""
    kernel = place.script("k", "echo", "shutdown")
    place.run("run", "holder", "--detach", "--kernel", kernel, "--disk", "disk.img", status=0)
    result = place.run("run", "other", "--kernel", kernel, "--disk", "disk.img", status=2)
    check("machine holder" in result.stderr, result.stderr)
    result = place.run("run", "other", "--kernel", kernel, "--disk", "disk.img,readonly", status=2)
    check("machine holder" in result.stderr, result.stderr)

    first, place.runtime = place.runtime, place.folder / "run2"  # another broker
    place.env["BULKHEAD_RUNTIME_DIR"] = str(place.runtime)
    result = place.run("run", "other", "--kernel", kernel, "--disk", "disk.img", status=2)
    check("[holder/" in result.stderr or "bulkheadd" in result.stderr, result.stderr)
    os.kill(place.find_broker(), signal.SIGTERM)
    eventually(lambda: not place.children(), "the second broker's end")
    place.runtime = first
    place.env["BULKHEAD_RUNTIME_DIR"] = str(first)
    place.run("stop", "holder", status=0)

    for name in ("r1", "r2"):  # readers share; ephemeral ones are readers
        word = "disk.img,readonly" if name == "r1" else "disk.img,ephemeral"
        place.run("run", name, "--detach", "--kernel", kernel, "--disk", word, status=0)
    check("machine r" in place.run("run", "w", "--kernel", kernel, "--disk", "disk.img", status=2).stderr, "a writer")
    place.run("kill", "r1", status=0)
    place.run("kill", "r2", status=0)


# ---- console ---------------------------------------------------------------------------------------------------------

def read_until(fd, mark):
    seen = b""
    while mark not in seen:
        check(select.select([fd], [], [], LIMIT)[0], f"no {mark!r} in {seen[-200:]!r}")
        piece = os.read(fd, 65536)
        check(piece, f"the end before {mark!r}: {seen[-200:]!r}")
        seen += piece
    return seen


@case
def console_replays_and_shares(place):
    """Broken if it fails: who attaches sees nothing, or viewers take each other's output."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "flood 100000", "say prompt", "echo", "shutdown"),
              status=0)
    with place.spawn("console", "m") as first:
        read_until(first.stdout.fileno(), b"prompt\n")  # all is out
        first.kill()
    eventually(lambda: place.machines()[0]["consoles"] == 0, "no viewer")
    viewers = [place.spawn("console", "m") for _ in range(2)]
    for viewer in viewers:
        seen = read_until(viewer.stdout.fileno(), b"prompt\n")
        check(1000 < len(seen) <= 8192 and seen.startswith(b"0123"), f"{len(seen)} {seen[:20]!r}")
    viewers[0].stdin.write(b"typed\n")
    viewers[0].stdin.flush()
    for viewer in viewers:
        read_until(viewer.stdout.fileno(), b"typed")
    viewers[1].stdin.close()  # the end of input is no end of output
    viewers[0].stdin.write(b"again\n")
    viewers[0].stdin.flush()
    read_until(viewers[1].stdout.fileno(), b"again")
    viewers[0].kill()
    eventually(lambda: place.machines()[0]["consoles"] == 1, "one viewer less")
    place.run("stop", "m", status=0)
    check(viewers[1].wait(LIMIT) == 0, "the other viewer's status")


@case
def slow_viewer_harms_nobody(place):
    """Broken if it fails: a terminal that is halted stops the guest, or the broker's memory grows."""
    kernel = place.script("k", "echo", "flood 6000000", "say done", "deaf")
    place.run("run", "m", "--detach", "--kernel", kernel, status=0)
    slow = place.spawn("console", "m")
    eventually(lambda: place.machines()[0]["consoles"] == 1, "the slow viewer")
    stop = place.spawn("stop", "m", "--timeout", "1000")  # the button lets the flood loose
    watcher = place.spawn("console", "m")
    read_until(watcher.stdout.fileno(), b"done\n")
    seen = read_until(slow.stdout.fileno(), b"done\n")
    check(b"bytes skipped]" in seen and len(seen) < 6000000, f"{len(seen)} bytes")
    place.run("kill", "m", status=0)
    check(stop.wait(LIMIT) == 0, "stop")


@case
def terminal_detaches(place):
    """Broken if it fails: Ctrl-] does not detach, ends the machine, or leaves the terminal raw."""
    leader, follower = pty.openpty()
    kernel = place.script("k", "say prompt", "echo", "shutdown")
    command = place.spawn("run", "m", "--kernel", kernel, stdin=follower, stdout=follower, stderr=follower,
                          start_new_session=True)
    seen = read_until(leader, b"prompt")
    check(b"Ctrl-]" in seen, seen)
    os.write(leader, b"\x03x")  # Ctrl-C is the guest's
    read_until(leader, b"\x03x")
    os.write(leader, b"y\x1dz")
    check(b"bulkhead console m" in read_until(leader, b"bulkhead console m"), "how to come back")
    check(command.wait(LIMIT) == 0, "status")
    import termios
    check(termios.tcgetattr(follower)[3] & termios.ECHO, "the terminal is still raw")
    check(place.machines()[0]["state"] == "running", "the machine runs on")
    os.close(leader)
    os.close(follower)
    place.run("stop", "m", status=0)


# ---- the control socket ------------------------------------------------------------------------------------------------

def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


def request(number, body, identity=1):
    return frame(field(1, identity) + field(number, body))


HELLO = request(2, field(1, 1))


def answers(client):
    """All that comes until the broker closes."""
    seen = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            seen += piece
    return seen


@case
def hostile_clients_are_dropped(place):
    """Broken if it fails: a client can crash or hang the broker, or touch a machine without asking properly."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "echo", "shutdown"), status=0)
    broker = place.find_broker()
    before = len(os.listdir(f"/proc/{broker}/fd"))
    bad = {
        "no frame": b"\0\0\0\0",
        "too long": struct.pack("<I", 65537),
        "huge": b"\xff\xff\xff\xff",
        "no protobuf": frame(b"\xff" * 100),
        "no body": frame(field(1, 1)),
        "unknown body": request(99, b""),
        "not greeted": request(6, field(1, "m")),
        "greeted twice": HELLO + HELLO,
        "two bodies, the last counts": frame(field(1, 1) + field(6, field(1, "m")) + field(99, b"")),
        "deep": HELLO + request(3, field(1, field(7, field(1, field(1, b"\x0a\xff")) * 50))),
        "http": b"GET / HTTP/1.0\r\n\r\n",
    }
    for name, wire in bad.items():
        with place.connect() as client:
            client.sendall(wire)
            client.shutdown(socket.SHUT_WR)
            answers(client)
        check(alive(broker), f"{name}: the broker died")
    with place.connect() as client:  # an fd, which no request has
        client.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
        check(answers(client) == b"", "an fd was taken")
    with place.connect() as client:  # a wrong version is told
        client.sendall(request(2, field(1, 2)))
        check(b"version" in client.recv(65536), "no word on the version")
    with place.connect() as client:  # asks and never reads
        client.sendall(HELLO)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            client.setblocking(False)
            for _ in range(100000):
                client.sendall(request(4, b""))
        place.machines()
    with place.connect() as client:  # more at once than is allowed
        client.sendall(HELLO + request(8, field(1, "m")) + b"".join(request(7, field(1, "m"), i) for i in range(64)))
        client.shutdown(socket.SHUT_WR)
        answers(client)
    crowd = []
    with contextlib.suppress(OSError):  # more than fit; the first leave, and the next are served
        for _ in range(80):
            crowd.append(place.connect())
            crowd[-1].setblocking(False)
    for client in crowd:
        client.close()
    check(place.machines()[0]["state"] == "running", "the machine")
    eventually(lambda: len(os.listdir(f"/proc/{broker}/fd")) <= before, "the broker's fds")
    check(place.find_broker() == broker, "another broker")
    place.run("stop", "m", status=0)


@case
def owners_only(place):
    """Broken if it fails: a name that is a path, or empty, reaches something."""
    place.run("run", "m", "--detach", "--kernel", place.script("k", "echo", "shutdown"), status=0)
    for name in ("", "../m", "m/../m", "m\n", "M", "x" * 5000):
        with place.connect() as client:
            client.sendall(HELLO + request(6, field(1, name)))
            client.shutdown(socket.SHUT_WR)
            check(b"no machine with the name" in answers(client), repr(name))
    check(place.machines()[0]["state"] == "running", "the machine")
    place.run("stop", status=0)


@case
def hostile_vmm(place):
    """Broken if it fails: a VMM that was taken over harms the broker or another machine."""
    place.run("run", "good", "--detach", "--kernel", place.script("k", "echo", "shutdown"), status=0)
    kernel = place.script("k1", "ready", "flood-control", "lost 31", "lost 0", "reset", "echo", "shutdown")
    place.run("run", "bad", "--detach", "--kernel", kernel, status=0)
    eventually(lambda: any(m["resets"] > 1000 for m in place.machines()), "resets")
    place.run("stop", "bad", status=0)
    chatty = place.script("k2", *["stderr " + "x" * 60] * 40, "ready", "echo", "shutdown")
    place.run("run", "chatty", "--detach", "--kernel", chatty, status=0)
    place.run("stop", "chatty", status=0)
    check(place.machines()[0]["state"] == "running", "the other machine")
    place.run("stop", "good", status=0)


def main():
    wanted = sys.argv[4:]
    failed = 0
    print(f"1..{len(CASES)}")
    for number, function in enumerate(CASES, 1):
        if wanted and function.__name__ not in wanted:
            continue
        place = Place()
        try:
            try:
                function(place)
            finally:
                place.finish()
            print(f"ok {number} - {function.__name__}", flush=True)
        except Exception as error:  # the next case stands alone
            failed += 1
            import traceback
            print("\n".join("# " + line for line in traceback.format_exc().split("\n")))
            print(f"not ok {number} - {function.__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
