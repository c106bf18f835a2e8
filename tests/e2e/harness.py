# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end scenarios stand on: a private place to run in, consoles to talk to, and a look at what is left.

A *scenario* is a function that drives real programs; it declares the names of its *cases* and reports each one with
`with run.case(name):`. A case that raises has failed; a declared case that was never reached has failed too.

A Workspace gives a scenario its own runtime folder, temporary folder and so its own broker. The test process is a
child subreaper, so every process a scenario leaves behind stays its descendant and can be named.

Deadlines here only bound a hang; none decides a result.
"""
import contextlib
import ctypes
import hashlib
import http.server
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {
    "bulkhead": "tools/bulkhead",
    "bulkheadd": "broker/bulkheadd",
    "bulkhead-vmm": "vmm/bulkhead-vmm",
    "bulkhead-blk": "devserver/block/bulkhead-blk",
    "bulkhead-net": "devserver/net/bulkhead-net",
    "disk-register": "tests/guests/disk-register",
}
PR_SET_CHILD_SUBREAPER = 36


class Failure(Exception):
    """A check did not hold; the message says what was expected and what came."""


def become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def expect(condition, message):
    if not condition:
        raise Failure(message)


def descendants(root_pid=None):
    """Living descendants of this process (zombies are not alive): {pid: command name}."""
    parents, names = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        name, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
        if rest[0] not in "ZX":
            parents[int(entry)], names[int(entry)] = int(rest[1]), name
    found, level = {}, [root_pid or os.getpid()]
    while level:
        level = [pid for pid, parent in parents.items() if parent in level]
        found.update({pid: names[pid] for pid in level})
    return found


def wait_gone(pids, seconds):
    """Waits until all of `pids` have ended; the ones that have not after `seconds`."""
    deadline = time.monotonic() + seconds
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not poller.poll(max(0, deadline - time.monotonic()) * 1000):
            left.append(pid)
        os.close(fd)
    return left


def eventually(check, seconds, message):
    """Polls `check` (for state that nothing announces, such as files that vanish) until it is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(message() if callable(message) else message)
        time.sleep(0.05)


def plain(text):
    """Terminal output without escape sequences and carriage returns."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Guest:
    """The files of one flavour of tools/guest-image."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.kernel = self.folder / "vmlinuz"
        self.initrd = self.folder / "initrd.img"
        self.root = self.folder / "root.img"
        self.tiny = self.folder / "tiny.cpio"
        self.ssh_key = self.folder / "id_ed25519"
        self.cmdline = (self.folder / "cmdline").read_text().strip()


class Console:
    """A program on a pseudo terminal (or pipes) whose output is kept, searched and logged."""

    def __init__(self, argv, log, env=None, cwd=None, use_pty=True, pass_fds=()):
        self.argv = [str(word) for word in argv]
        self.log = open(log, "ab", buffering=0)
        self.text = ""
        self.from_here = 0
        if use_pty:
            parent, child = pty.openpty()
            attributes = termios.tcgetattr(child)
            attributes[3] &= ~termios.ECHO
            termios.tcsetattr(child, termios.TCSANOW, attributes)
            self.process = subprocess.Popen(self.argv, stdin=child, stdout=child, stderr=child, env=env, cwd=cwd,
                                            start_new_session=True, pass_fds=pass_fds)
            os.close(child)
            self.input = self.output = parent
        else:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True,
                                            pass_fds=pass_fds)
            self.input, self.output = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.open = True

    def tail(self, lines=25):
        return "\n".join("    | " + line for line in plain(self.text).split("\n")[-lines:])

    def fill(self, seconds):
        """Reads what there is, waiting at most `seconds`. False at end of file."""
        if not self.open:
            return False
        readable, _, _ = select.select([self.output], [], [], max(0, seconds))
        if not readable:
            return True
        try:
            block = os.read(self.output, 65536)
        except OSError:  # a pty whose other end is closed
            block = b""
        if not block:
            self.open = False
            return False
        self.log.write(block)
        self.text += block.decode("utf-8", "replace")
        return True

    def wait_for(self, pattern, seconds, never=None):
        """Waits for a regular expression in the output that no wait consumed yet. Returns the match."""
        deadline = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.text[self.from_here:], re.MULTILINE)
            if match:
                self.from_here += match.end()
                return match
            bad = never and re.search(never, self.text[self.from_here:], re.MULTILINE)
            if bad:
                raise Failure(f"'{bad.group(0)}' came instead of '{pattern}'; output ends with\n{self.tail()}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure(f"no '{pattern}' within {seconds} s; output ends with\n{self.tail()}")
            if not self.fill(left):
                raise Failure(f"{self.argv[0]} ended ({self.process.wait(30)}) before '{pattern}'; "
                              f"output ends with\n{self.tail()}")

    def send(self, text):
        os.write(self.input, text.encode())

    def wait_exit(self, seconds):
        """Reads to the end; the exit status."""
        deadline = time.monotonic() + seconds
        while self.open and time.monotonic() < deadline and self.process.poll() is None:
            self.fill(min(0.5, deadline - time.monotonic()))
        while self.open and self.fill(0.2) and select.select([self.output], [], [], 0)[0]:
            pass
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.argv[0]} still runs after {seconds} s; output ends with\n{self.tail()}") from None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.input == self.output:
            os.close(self.output)
        else:
            self.process.stdin.close()
            self.process.stdout.close()
        self.log.close()


class Shell:
    """A root shell on a guest's serial console."""

    def __init__(self, console):
        self.console = console
        self.count = 0

    def login(self, boot_seconds):
        self.console.wait_for(r"login: $", boot_seconds, never="Kernel panic|emergency mode|call trace")
        self.console.send("root\r")
        self.console.wait_for("Password: ", 120)
        self.console.send("bulkhead\r")
        self.console.wait_for(r"# $", 120, never="Login incorrect")
        # A shell without a line editor: what comes back is only what commands print.
        self.console.send("exec sh\r")
        self.console.wait_for(r"exec sh[^#]*[\r\n]# $", 60)
        self.console.send("stty -echo; export TERM=dumb PS1=\r")
        # Kernel messages would land in the middle of what commands print; those of a panic still come.
        self.run("dmesg --console-level emerg", 60)

    def run(self, command, seconds, check=True):
        """Runs a command; its output, and its status where not checked."""
        self.count += 1
        mark = f"bulkhead-mark-{self.count}"
        self.console.send(f"{command}\recho {mark[:5]}'{mark[5:]}' status=$?\r")
        start = self.console.from_here
        match = self.console.wait_for(rf"{mark} status=(\d+)\s", seconds, never="Kernel panic")
        output = plain(self.console.text[start:self.console.from_here - len(match.group(0))]).strip()
        status = int(match.group(1))
        if not check:
            return output, status
        expect(status == 0, f"'{command}' ended with {status} in the guest; it printed\n{output[-2000:]}")
        return output


class Workspace:
    """A scenario's own folders, environment and broker."""

    def __init__(self, suite, name):
        self.suite = suite
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bh-", dir="/tmp"))
        self.runtime, self.temporary = self.folder / "run", self.folder / "tmp"
        self.state = self.folder / "state"
        for folder in (self.runtime, self.temporary, self.state):
            folder.mkdir(mode=0o700)
        self.logs = suite.logs / name
        self.logs.mkdir(parents=True, exist_ok=True)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(self.runtime), XDG_STATE_HOME=str(self.state),
                        TMPDIR=str(self.temporary))
        self.consoles = []
        self.shared_memory_before = set(os.listdir("/dev/shm"))
        self.mine_before = set(descendants())

    def program(self, name):
        return self.suite.program(name)

    def console(self, argv, log="console", use_pty=True, pass_fds=()):
        made = Console(argv, self.logs / f"{log}.log", env=self.env, cwd=self.folder, use_pty=use_pty,
                       pass_fds=pass_fds)
        self.consoles.append(made)
        return made

    def run(self, argv, seconds=60, **settings):
        """Runs a program to its end; the CompletedProcess with text output."""
        try:
            return subprocess.run([str(word) for word in argv], env=self.env, cwd=self.folder, timeout=seconds,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, check=False, **settings)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{argv[0]} still ran after {seconds} s; it printed\n"
                          f"{(error.stdout or b'')[-500:]} {(error.stderr or b'')[-500:]}") from None

    def bulkhead(self, *words, seconds=60):
        return self.run([self.program("bulkhead"), *words], seconds=seconds)

    def processes(self):
        return {pid: name for pid, name in descendants().items() if pid not in self.mine_before}

    def files_left(self):
        """Files a finished machine left, the broker's own (its socket, lock, log) apart."""
        own = re.compile(r"(^|/)(control|broker)[^/]*$|/bulkheadd?$|\.(lock|pid|log)$")
        left = [path for top in (self.runtime, self.temporary) for path in top.rglob("*")
                if not own.search(path.as_posix()) and not path.is_dir()]
        shared = set(os.listdir("/dev/shm")) - self.shared_memory_before
        return [str(path) for path in left] + [f"/dev/shm/{name}" for name in sorted(shared)]

    def expect_clean(self, seconds=20):
        """No process but an idle broker, no file."""
        workers = [pid for pid, name in self.processes().items() if not name.startswith("bulkheadd")]
        left = wait_gone(workers, seconds)
        expect(not left, f"processes left: {[(pid, descendants().get(pid)) for pid in left]}")
        eventually(lambda: not self.files_left(), seconds, lambda: f"files left: {self.files_left()}")

    def finish(self):
        for console in self.consoles:
            console.close()
        for pid, name in self.processes().items():
            if name.startswith("bulkheadd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        for pid in wait_gone(list(self.processes()), 10):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class FileServer:
    """HTTP on the host's loopback: GET gives fixed random bytes, PUT keeps the sha256 of what came."""

    def __init__(self, megabytes):
        self.content = os.urandom(megabytes << 20)
        self.digest = hashlib.sha256(self.content).hexdigest()
        self.received = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                self.wfile.write(outer.content)

            def do_PUT(self):
                digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
                if self.headers.get("Expect", "").lower() == "100-continue":
                    pass  # BaseHTTPRequestHandler has answered it already
                while left > 0 and (block := self.rfile.read(min(left, 1 << 16))):
                    digest.update(block)
                    left -= len(block)
                outer.received.append(digest.hexdigest())
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class ScenarioRun:
    def __init__(self, suite, name, cases):
        self.suite, self.name, self.left = suite, name, list(cases)

    @contextlib.contextmanager
    def case(self, case):
        expect(case in self.left, f"case '{case}' is not declared by {self.name}")
        started = time.monotonic()
        self.left.remove(case)
        try:
            yield
        except Exception as error:
            self.suite.report(self.name, case, "failed", time.monotonic() - started, f"{error}")
            raise
        self.suite.report(self.name, case, "passed", time.monotonic() - started)

    def skip(self, case, why):
        self.left.remove(case)
        self.suite.report(self.name, case, "skipped", 0, why)


class Suite:
    def __init__(self, build, guest, logs, stream=sys.stdout):
        self.build, self.guest, self.logs = pathlib.Path(build).resolve(), guest, pathlib.Path(logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.stream, self.results = stream, []

    def program(self, name):
        return self.build / PROGRAMS[name]

    def report(self, scenario, case, outcome, seconds, detail=""):
        self.results.append({"scenario": scenario, "case": case, "outcome": outcome, "seconds": round(seconds, 1),
                             "detail": detail})
        print(f"e2e {scenario}/{case}: {outcome} ({seconds:.1f} s)" + (f": {detail}" if detail else ""),
              file=self.stream, flush=True)

    def execute(self, name, function, cases):
        run = ScenarioRun(self, name, cases)
        place = Workspace(self, name)
        reason = "the scenario ended before it"
        try:
            function(run, place)
        except Exception as error:  # the failing case has been reported; what follows it was not reached
            first = str(error).split("\n", maxsplit=1)[0]
            reason = f"not reached: {type(error).__name__}: {first}"
        finally:
            place.finish()
        for case in list(run.left):
            self.report(name, case, "failed", 0, reason)

    def write(self, path):
        pathlib.Path(path).write_text(json.dumps(self.results, indent=1))
