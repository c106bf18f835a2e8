# SPDX-License-Identifier: Apache-2.0
"""Scenarios with the tiny busybox guest: life cycle, consoles, deaths. It boots in seconds."""
import os
import re
import signal

from harness import expect, wait_gone

BOOT_SECONDS = 180


def tiny_argv(place, *extra, name="tiny", end="poweroff", cpus=1, options=""):
    guest = place.suite.guest
    return [place.program("bulkhead"), "run", name, "--kernel", guest.kernel, "--initrd", guest.tiny,
            "--append", f"console=ttyS0 quiet tiny.end={end} {options}".strip(), "--cpus", cpus, "--memory", "512M",
            *extra]


def self_check(run, place):
    """The guest's own checks, through pipes instead of a terminal."""
    with run.case("passes-through-pipes"):
        console = place.console(tiny_argv(place, "--disk", f"{place.suite.guest.root},readonly",
                                          options="tiny.disk=1"), use_pty=False)
        console.wait_for("^tiny: passed", BOOT_SECONDS, never="tiny: failed.*|Kernel panic.*")
        status = console.wait_exit(60)
        expect(status == 0, f"bulkhead run ended with {status}")
    with run.case("says-which-accelerator-and-why"):
        expect(re.search(r"\b(jit|JIT|kvm|KVM)\b", console.text), f"nothing about it in\n{console.text[:500]}")
    with run.case("two-processors"):
        console = place.console(tiny_argv(place, cpus=2), log="two")
        console.wait_for("2 processors", BOOT_SECONDS)
        console.wait_for("^tiny: passed", BOOT_SECONDS, never="tiny: failed.*|Kernel panic.*")
        expect(console.wait_exit(60) == 0, "bulkhead run did not end with 0")
    with run.case("reset-boots-again"):
        console = place.console(tiny_argv(place, end="reboot"), log="reset")
        for _ in range(2):
            console.wait_for("^tiny: init runs", BOOT_SECONDS)
            console.wait_for("^tiny: passed", BOOT_SECONDS, never="tiny: failed.*|Kernel panic.*")
        place.bulkhead("kill", "tiny")
        console.wait_exit(60)
    with run.case("nothing-is-left"):
        place.expect_clean()


def life_cycle(run, place):
    def listed():
        result = place.bulkhead("ps")
        expect(result.returncode == 0, f"bulkhead ps ended with {result.returncode}: {result.stderr}")
        return result.stdout

    with run.case("run-detached"):
        result = place.bulkhead(*[str(word) for word in tiny_argv(place, "--detach", end="shell", name="box")[1:]],
                                seconds=BOOT_SECONDS)
        expect(result.returncode == 0, f"bulkhead run --detach: {result.returncode} {result.stderr}")
    with run.case("ps-lists-it"):
        expect(re.search(r"^box\b", listed(), re.MULTILINE), f"bulkhead ps does not list it:\n{listed()}")
    with run.case("a-second-one-of-that-name-is-refused"):
        result = place.bulkhead(*[str(word) for word in tiny_argv(place, "--detach", end="shell", name="box")[1:]])
        expect(result.returncode == 2 and "box" in result.stderr, f"{result.returncode} {result.stderr}")
    with run.case("console-attaches-and-detaches"):
        console = place.console([place.program("bulkhead"), "console", "box"])
        # The guest may still be checking itself; its shell answers once it is there.
        console.send("\r")
        console.wait_for(r"# (\x1b\[6n)?$", BOOT_SECONDS)  # busybox asks the terminal where its cursor is
        console.send("echo $((6 * 7))-here\r")
        console.wait_for("42-here", 60)
        console.send("\x1d")
        expect(console.wait_exit(60) == 0, "Ctrl-] did not end the console with 0")
        expect(re.search(r"^box\b", listed(), re.MULTILINE), "the machine went with the console")
    with run.case("unknown-name-is-refused"):
        for verb in ("kill", "stop", "console"):
            result = place.bulkhead(verb, "nobody")
            expect(result.returncode == 2 and "nobody" in result.stderr, f"{verb}: {result.returncode} {result.stderr}")
    with run.case("kill-ends-it"):
        result = place.bulkhead("kill", "box")
        expect(result.returncode == 0, f"bulkhead kill: {result.returncode} {result.stderr}")
        expect(not re.search(r"^box\b", listed(), re.MULTILINE), "bulkhead ps still lists it")
    with run.case("nothing-is-left"):
        place.expect_clean()


def deaths(run, place):
    """kill -9 of any one process leaves no orphan, socket or temporary file."""
    guest = place.suite.guest
    for victim in ("bulkhead-vmm", "bulkhead-blk", "bulkhead-net", "bulkheadd", "bulkhead"):
        with run.case(f"kill-{victim}"):
            console = place.console(tiny_argv(place, "--disk", f"{guest.root},ephemeral", "--net", "user", end="shell"),
                                    log=victim)
            console.wait_for("^tiny: init runs", BOOT_SECONDS)
            pids = [pid for pid, name in place.processes().items() if name == victim]
            expect(pids, f"no process is called {victim}: {place.processes()}")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            left = wait_gone(pids, 10)
            expect(not left, f"{victim} survived kill -9")
            if victim in ("bulkhead-blk", "bulkhead-net", "bulkhead"):
                # The machine may go on (a server is replaced, the console detached); end it the regular way.
                place.bulkhead("kill", "tiny")
            console.wait_exit(60)
            place.expect_clean()


def lock_step(run, place):
    """The start of a real boot with every block executed by the interpreter and by T0 and compared.

    A difference ends the VMM with a message that names the block.
    """
    place.env |= {"BULKHEAD_JIT_TIER": "lockstep", "BULKHEAD_JIT_STATS": "1"}
    guest = place.suite.guest
    with run.case("kernel-start"):
        console = place.console([place.program("bulkhead-vmm"), "--kernel", guest.kernel, "--initrd", guest.tiny,
                                 "--append", "console=ttyS0 earlyprintk=ttyS0", "--memory", "512M", "--cpus", "1"],
                                use_pty=False)
        console.wait_for("Mount-cache hash table entries", 600, never="lock step: .*")
        os.kill(console.process.pid, signal.SIGTERM)
        console.wait_exit(60)
        compared = re.search(r"compared-blocks (\d+)", console.text)
        expect(compared and int(compared[1]) > 1_000_000, f"only {compared and compared[1]} blocks were compared")


PSABI = {"v1": {"cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"},
         "v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
         "v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}}
UNNAMED = {"fdp_excptn_only", "zero_fcs_fds", "spec_ctrl", "ht", "pks"}  # not so in one vCPU's /proc/cpuinfo


def cpu_models(run, place):
    """What the guest's kernel finds in CPUID is what --cpu asked for, no more and no less."""
    guest = place.suite.guest
    listing = place.run([place.program("bulkhead-vmm"), "--cpu=help"]).stdout.split("Features:\n")[1].splitlines()
    names = {line.split()[0] for line in listing} - UNNAMED
    runs = {line.split()[0] for line in listing if "cannot run here" not in line} - UNNAMED

    def flags(words):
        script = "busybox mount -t proc proc /proc; busybox grep -m1 ^flags /proc/cpuinfo; busybox poweroff -f"
        console = place.console([place.program("bulkhead"), "run", "flags", "--kernel", guest.kernel, "--initrd",
                                 guest.tiny, "--append", f'console=ttyS0 quiet rdinit=/bin/busybox -- sh -c "{script}"',
                                 "--cpus", 1, "--memory", "512M", "--cpu", words], log=words, use_pty=False)
        console.wait_for(r"^flags\s*:", BOOT_SECONDS, never="Kernel panic.*")
        expect(console.wait_exit(60) == 0, f"--cpu {words}: bulkhead run did not end with 0")
        found = re.search(r"^flags\s*: (.*)$", console.text, re.MULTILINE)[1]
        return set(found.split()) & names

    levels = [level for level in PSABI if PSABI[level] <= runs]
    seen = {words: flags(words) for words in [*levels, "host", "max"]}
    with run.case("levels"):
        promised = set()
        for level in levels:
            promised |= PSABI[level]
            later = set().union(*(PSABI[other] for other in PSABI if other > level)) - promised - {"xsave"}
            expect(promised <= seen[level], f"{level} lacks {promised - seen[level]}")
            expect(not later & seen[level], f"{level} has {later & seen[level]}")
    with run.case("host-and-max"):
        expect(seen["max"] == runs, f"max differs from what runs by {seen['max'] ^ runs}")
        expect(seen["host"] <= runs, f"host has {seen['host'] - runs}")
    with run.case("single-features"):
        changed = flags("v2,+smap,-x2apic,-tsc-deadline")
        expected = (seen["v2"] | {"smap"}) - {"x2apic", "tsc_deadline_timer"}
        expect(changed == expected, f"differs by {changed ^ expected}")
    with run.case("refusals"):
        for words, says in (("v2,-xsave", "-xsaveopt"), ("v2,-sse2", "sse2"), ("v2,+avx512_vnnj", "avx512_vnni")):
            result = place.bulkhead("run", "flags", "--kernel", guest.kernel, "--cpu", words, "--detach")
            expect(result.returncode != 0 and "--cpu" in result.stderr and says in result.stderr,
                   f"--cpu {words}: {result.returncode} {result.stderr}")
    with run.case("nothing-is-left"):
        place.expect_clean()


SCENARIOS = {
    "cpu-models": (cpu_models, ["levels", "host-and-max", "single-features", "refusals", "nothing-is-left"]),
    "lock-step": (lock_step, ["kernel-start"]),
    "self-check": (self_check, ["passes-through-pipes", "says-which-accelerator-and-why", "two-processors",
                                "reset-boots-again", "nothing-is-left"]),
    "life-cycle": (life_cycle, ["run-detached", "ps-lists-it", "a-second-one-of-that-name-is-refused",
                                "console-attaches-and-detaches", "unknown-name-is-refused", "kill-ends-it",
                                "nothing-is-left"]),
    "deaths": (deaths, ["kill-bulkhead-vmm", "kill-bulkhead-blk", "kill-bulkhead-net", "kill-bulkheadd",
                        "kill-bulkhead"]),
}
