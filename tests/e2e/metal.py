# SPDX-License-Identifier: Apache-2.0
"""Bare-metal guests (tests/guests/metal): system instructions, and code that devices write.

Each prints its own verdict; what it prints is the same in every tier.
"""
import os
import re
import signal

from harness import eventually, expect

SECONDS = 120
GUESTS = "tests/guests/metal"
SYSTEM = ["apic", "debug32", "debug64", "gates", "long", "paging32", "paging64", "real", "segments", "tasks"]


def start(place, name, tier, cpus=1, devices=(), append=""):
    place.env["BULKHEAD_JIT_TIER"] = tier
    return place.console([place.program("bulkhead-vmm"), "--kernel", place.suite.build / GUESTS / f"metal-{name}",
                          "--memory", "64M", "--cpus", cpus, "--cpu", "max", "--append", append,
                          "--log-level", "warning", *devices], log=f"{name}-{tier}-{cpus}", use_pty=False)


def boot(place, name, tier, cpus=1, devices=(), append=""):
    """Runs a guest to its end; what it printed."""
    console = start(place, name, tier, cpus, devices, append)
    status = console.wait_exit(SECONDS)
    expect(status == 0, f"bulkhead-vmm ended with {status}; it printed\n{console.tail()}")
    text = console.text.replace("\r", "")
    expect(re.search(r"^metal: passed \d+$", text, re.MULTILINE), f"it did not pass\n{console.tail()}")
    return text


def device_writes(run, place):
    """A disk reads different code into the same pages, again and again; what runs is always the new code.

    Not in lock step: there a device's writes look like differences.
    """
    for case, tier, cpus in (("compiled", "t0", 1), ("interpreted", "interpreter", 1), ("two-processors", "t0", 2),
                             ("four-processors", "t0", 4)):
        with run.case(case):
            image, path = place.folder / f"{case}.img", place.folder / f"{case}.sock"
            image.write_bytes(bytes(1 << 20))
            place.console([place.program("bulkhead-blk"), f"--socket-path={path}", f"--image={image}"],
                          log=f"blk-{case}")
            eventually(path.exists, 30, f"{path} never came")
            boot(place, "dma", tier, cpus, ["--device", f"kind=blk,socket={path}"], f"cpus={cpus}")


def bare_metal(run, place):
    """System instructions: each guest gives the manual's results, and the same ones in every tier."""
    for name in SYSTEM:
        with run.case(name):
            texts = {tier: boot(place, name, tier, append="quick") for tier in ("interpreter", "t0", "lockstep")}
            boot(place, name, "auto")
            for tier, text in texts.items():
                expect(text == texts["interpreter"],
                       f"{tier} and the interpreter differ; they printed\n{text}\n{texts['interpreter']}")
    with run.case("locks"):
        for tier in ("interpreter", "t0"):
            boot(place, "locks", tier, cpus=2)
    with run.case("shutdown-resets"):
        console = start(place, "reset", "t0")
        for _ in range(3):
            console.wait_for("^metal: note shuts down", SECONDS, never="metal: FAIL.*")
        os.kill(console.process.pid, signal.SIGTERM)
        console.wait_exit(SECONDS)


SCENARIOS = {
    "bare-metal": (bare_metal, [*SYSTEM, "locks", "shutdown-resets"]),
    "device-writes": (device_writes, ["compiled", "interpreted", "two-processors", "four-processors"]),
}
