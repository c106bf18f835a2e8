# SPDX-License-Identifier: Apache-2.0
"""Software that others made, and that depends on every corner of the processor, runs with right results.

Broken if these fail: a guest finds out that it runs on a translator. The programs are in tests/guests/programs/ with
what they print on real processors.
"""
import os
import subprocess

from guests import BOOT_SECONDS, power_off, start, unpack_scripts
from harness import ROOT, Failure, Shell, expect, plain

PROGRAMS = ROOT / "tests" / "guests" / "programs"
SHORT = ["c", "i386", "gdb", "node", "go", "java", "perl", "python"]
LONG = SHORT + ["c-plain", "i386-plain", "java-first-tier", "java-interpreter", "python-tests"]
MODELS = ["v1", "v2", "v3", "max"]


def kernels():
    """The folder of tools/guest-kernels."""
    made = subprocess.run([ROOT / "tools" / "guest-kernels"], stdout=subprocess.PIPE, text=True, check=False)
    expect(made.returncode == 0, f"tools/guest-kernels ended with {made.returncode}")
    return made.stdout.strip()


def built(place):
    """What only the host compiles: programs/built/, by the name it has in the guest."""
    folder = place.folder / "built"
    folder.mkdir()
    environment = dict(os.environ, CGO_ENABLED="0", GO111MODULE="off", GOFLAGS="",
                       GOCACHE=str(place.folder / "go-cache"))
    for argv in (["go", "build", "-o", folder / "routines", PROGRAMS / "routines.go"],
                 ["javac", "-d", folder, PROGRAMS / "Check.java"]):
        made = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=600)
        expect(made.returncode == 0, f"{argv[0]}: {made.stdout}{made.stderr}")
    return {f"programs/built/{path.name}": path for path in folder.iterdir()}


def first_menu(run, place):
    """Debian's installer: its kernel, udev, and debconf with newt on the serial console."""
    folder = kernels()
    for arch in ("amd64", "i386"):
        with run.case(arch):
            files = f"{folder}/installer-{arch}"
            console = place.console(
                [place.program("bulkhead"), "run", arch, "--kernel", f"{files}/linux", "--initrd", f"{files}/initrd.gz",
                 "--append", "console=ttyS0 vga=off", "--memory", "1G", "--cpus", "1"], log=arch)
            # Escape sequences stand between the words on such a screen; the list's entry comes with its own.
            console.wait_for("Select a language", BOOT_SECONDS, never="Kernel panic")
            console.wait_for("English", 120)
            console.wait_for("<Go.?Back>", 120)
            place.bulkhead("kill", arch)
            console.wait_exit(60)


def backports(run, place):
    folder = f"{kernels()}/backports"
    with run.case("boots-to-login"):
        console = start(place, cpus=2, kernel=f"{folder}/vmlinuz", initrd=f"{folder}/initrd.img")
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
    with run.case("is-the-newer-kernel"):
        stock = shell.run("basename /lib/modules/*", 60)
        running = shell.run("uname -r", 60)
        expect(running != stock and int(running.split(".")[0]) >= 6, f"kernel {running} runs, the image's is {stock}")
        unpack_scripts(shell)
        shell.run("/opt/t/program-check perl", 200)
    power_off(run, place, console, shell)


def programs(run, place):
    """The short form: one guest with two processors and the default model."""
    with run.case("boots-to-login"):
        console = start(place, cpus=2, memory="2G", files=built(place))
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
        unpack_scripts(shell)
    run_parts(run, shell, SHORT, "")
    with run.case("stress-ng"):
        shell.run("/opt/t/stress-all short", 900)
    power_off(run, place, console, shell)


def run_parts(run, shell, parts, prefix):
    for part in parts:
        try:
            with run.case(prefix + part):
                shell.run(f"/opt/t/program-check {part}", 1800)
        except Failure:  # reported; the others stand alone
            if not answers(shell):
                raise


def answers(shell):
    try:
        return shell.run("echo yes", 60) == "yes"
    except Failure:
        return False


def soak(run, place):
    """The long form: every part and every stressor, each CPU model with one and with two processors."""
    files = built(place)
    for model in MODELS:
        for cpus in (1, 2):
            prefix = f"{model}-{cpus}-"
            with run.case(prefix + "boots-to-login"):
                console = start(place, "--cpu", model, cpus=cpus, memory="2G", files=files, name=f"{model}-{cpus}")
                shell = Shell(console)
                shell.login(BOOT_SECONDS)
                unpack_scripts(shell)
            run_parts(run, shell, LONG, prefix)
            with run.case(prefix + "stress-ng"):
                shell.run("/opt/t/stress-all long", 7200)
            with run.case(prefix + "kernel-log-is-clean"):
                bad = [line for line in plain(shell.run("dmesg -l emerg,alert,crit", 60)).splitlines() if line.strip()]
                expect(not bad, "the guest's kernel complains:\n" + "\n".join(bad))
            console.send("poweroff\r")
            expect(console.wait_exit(180) == 0, "bulkhead run did not end with 0")


SCENARIOS = {
    "installers": (first_menu, ["amd64", "i386"]),
    "backports-kernel": (backports, ["boots-to-login", "is-the-newer-kernel", "power-off-ends-with-0", "nothing-is-left"]),
    "programs": (programs, ["boots-to-login", *SHORT, "stress-ng", "power-off-ends-with-0", "nothing-is-left"]),
    "programs-soak": (soak, [f"{model}-{cpus}-{case}" for model in MODELS for cpus in (1, 2)
                             for case in ["boots-to-login", *LONG, "stress-ng", "kernel-log-is-clean"]]),
}
