# SPDX-License-Identifier: Apache-2.0
"""Each wrong use gives one line with what, where and the cure, exit status 2, and leaves nothing behind."""
import socket

from guests import sparse
from harness import expect
from tiny import BOOT_SECONDS, tiny_argv


def refused(place, argv, *words, seconds=60):
    """Runs argv; it must end with 2 and one line on stderr that has all of `words`."""
    result = place.run(argv, seconds=seconds)
    lines = [line for line in result.stderr.split("\n") if line.strip()]
    shown = f"status {result.returncode}, stderr: {result.stderr!r}, stdout: {result.stdout[-300:]!r}"
    expect(result.returncode == 2, f"expected exit status 2: {shown}")
    expect(len(lines) == 1, f"expected one line on stderr: {shown}")
    for word in words:
        expect(word in lines[0], f"the line does not name '{word}': {shown}")
    place.expect_clean()


def wrong_uses(place):
    """name -> (argv, words the message must have)."""
    guest, folder = place.suite.guest, place.folder
    bulkhead = place.program("bulkhead")
    base = [bulkhead, "run", "bad", "--kernel", guest.kernel, "--initrd", guest.tiny]
    odd = folder / "odd.img"
    odd.write_bytes(b"x" * 1000)
    empty = folder / "empty.img"
    empty.write_bytes(b"")
    good = sparse(folder / "good.img", 1)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    place.kept = listener
    busy = listener.getsockname()[1]
    return {
        "no-command": ([bulkhead], ["--help"]),
        "unknown-command": ([bulkhead, "launch"], ["launch"]),
        "no-kernel": ([bulkhead, "run", "bad"], ["--kernel"]),
        "missing-kernel": ([bulkhead, "run", "bad", "--kernel", "/nonexistent/vmlinuz"], ["/nonexistent/vmlinuz"]),
        "kernel-is-a-folder": ([bulkhead, "run", "bad", "--kernel", str(folder)], [str(folder)]),
        "missing-initrd": ([bulkhead, "run", "bad", "--kernel", guest.kernel, "--initrd", "/nonexistent/initrd"],
                           ["/nonexistent/initrd"]),
        "missing-disk": ([*base, "--disk", "/nonexistent/disk"], ["/nonexistent/disk"]),
        "disk-is-a-folder": ([*base, "--disk", str(folder)], [str(folder)]),
        "odd-sized-disk": ([*base, "--disk", odd], ["odd.img", "512"]),
        "empty-disk": ([*base, "--disk", empty], ["empty.img"]),
        "unknown-format": ([*base, "--disk", f"{good},format=vhdx"], ["vhdx", "raw"]),
        "unknown-disk-option": ([*base, "--disk", f"{good},cached"], ["cached"]),
        "disk-without-a-file": ([*base, "--disk", ",readonly"], ["--disk"]),
        "unknown-net": ([*base, "--net", "bridge"], ["bridge", "user"]),
        "bad-publish": ([*base, "--net", "user,publish=80"], ["80"]),
        "publish-port-too-big": ([*base, "--net", "user,publish=70000:22"], ["70000"]),
        "port-in-use": ([*base, "--net", f"user,publish={busy}:22"], [str(busy)]),
        "unknown-option": ([*base, "--colour", "red"], ["--colour"]),
        "no-cpus": ([*base, "--cpus", "0"], ["cpus"]),
        "too-many-cpus": ([*base, "--cpus", "1000"], ["1000", "cpus"]),
        "cpus-not-a-number": ([*base, "--cpus", "two"], ["two"]),
        "no-memory": ([*base, "--memory", "0"], ["memory"]),
        "memory-not-a-size": ([*base, "--memory", "lots"], ["lots"]),
        "more-memory-than-there-is": ([*base, "--memory", "4096T"], ["4096T"]),
        "unknown-accelerator": ([*base, "--accel", "magic"], ["magic", "jit"]),
        "unknown-cpu": ([*base, "--cpu", "v9"], ["v9", "v2"]),
        "bad-name": ([bulkhead, "run", "../bad", "--kernel", guest.kernel], ["../bad"]),
    }


NAMES = ["no-command", "unknown-command", "no-kernel", "missing-kernel", "kernel-is-a-folder",
         "missing-initrd", "missing-disk", "disk-is-a-folder", "odd-sized-disk", "empty-disk", "unknown-format",
         "unknown-disk-option", "disk-without-a-file", "unknown-net", "bad-publish", "publish-port-too-big",
         "port-in-use", "unknown-option", "no-cpus", "too-many-cpus", "cpus-not-a-number", "no-memory",
         "memory-not-a-size", "more-memory-than-there-is", "unknown-accelerator", "unknown-cpu", "bad-name"]


def table(run, place):
    uses = wrong_uses(place)
    expect(list(uses) == NAMES, "the table and its list of names differ")
    for name, (argv, words) in uses.items():
        try:
            with run.case(name):
                refused(place, argv, *words)
        except Exception:  # reported; each row stands alone
            continue
    place.kept.close()


def conditions(run, place):
    """Refusals that need something to run."""
    guest = place.suite.guest
    base = [place.program("bulkhead"), "run", "bad", "--kernel", guest.kernel, "--initrd", guest.tiny]
    with run.case("kvm-asked-for-and-not-usable"):
        refused(place, [*base, "--accel", "kvm"], "kvm", "jit")
    with run.case("kernel-is-text"):
        text = place.folder / "text.img"
        text.write_text("not a kernel\n" * 1000)
        refused(place, [place.program("bulkhead"), "run", "bad", "--kernel", text], "text.img")
    with run.case("disk-held-by-another-machine-names-it"):
        disk = sparse(place.folder / "disk.img", 16)
        argv = tiny_argv(place, "--disk", disk, "--detach", name="holder", end="shell")
        result = place.run(argv, seconds=BOOT_SECONDS)
        expect(result.returncode == 0, f"run --detach: {result.returncode} {result.stderr}")
        result = place.run([*base, "--disk", disk])
        expect(result.returncode == 2 and "holder" in result.stderr and "disk.img" in result.stderr,
               f"status {result.returncode}, stderr {result.stderr!r}")
        place.bulkhead("kill", "holder")
        place.expect_clean()
    with run.case("server-that-dies-at-start"):
        # Under a broker of its own: one that runs already would not see this environment.
        dying = place.folder / "dying"
        dying.mkdir()
        (dying / "bulkhead-net").write_text("#!/bin/sh\necho 'no network today' >&2\nexit 3\n")
        (dying / "bulkhead-net").chmod(0o755)
        argv = ["env", f"BULKHEAD_PROGRAM_DIR={dying}", f"BULKHEAD_RUNTIME_DIR={place.folder}/run-dying",
                *tiny_argv(place, "--net", "user", name="bad")]
        refused(place, argv, "bulkhead-net", "status 3", "no network today")
        crippled = ["prlimit", "--as=30000000", "env", f"BULKHEAD_RUNTIME_DIR={place.folder}/run-crippled",
                    *tiny_argv(place, name="bad")]
        refused(place, crippled, "memory")


SCENARIOS = {
    "bad-input": (table, NAMES),
    "bad-conditions": (conditions, ["kvm-asked-for-and-not-usable", "kernel-is-text",
                                    "disk-held-by-another-machine-names-it", "server-that-dies-at-start"]),
}
