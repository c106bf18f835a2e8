# SPDX-License-Identifier: Apache-2.0
"""Scenarios in which a VMM fails, or its guest does."""
import os
import re
import signal

from harness import expect
from tiny import BOOT_SECONDS, tiny_argv


def vmm_pid(place):
    match = re.search(r"vmm:(\d+)", place.bulkhead("ps").stdout)
    expect(match, "bulkhead ps shows no VMM")
    return int(match[1])


def crash(run, place):
    """What a VMM that fails leaves, and what it does not."""
    reports = place.state / "bulkhead" / "crashes"
    for name in ("SEGV", "ILL", "ABRT"):
        with run.case(f"report-after-{name}"):
            known = set(reports.glob("*.txt"))
            console = place.console(tiny_argv(place, end="shell", name="box"), log=name)
            console.wait_for("^tiny: init runs", BOOT_SECONDS)
            os.kill(vmm_pid(place), getattr(signal, f"SIG{name}"))
            console.wait_for(r"crashed: report in (\S+)", 60)
            expect(console.wait_exit(60) != 0, "bulkhead run ended as if nothing had happened")
            made = sorted(set(reports.glob("*.txt")) - known)
            expect(len(made) == 1, f"reports: {made}")
            text = made[0].read_text()
            expect(text.startswith("Bulkhead crash report\n") and f"what: SIG{name}" in text, text)
            expect(made[0].stat().st_mode & 0o777 == 0o600, f"mode {made[0].stat().st_mode:o}")
            listed = place.bulkhead("ps").stdout
            expect(f"crashed: box: report in {made[0]}" in listed, listed)
    with run.case("a-triple-fault-only-resets"):
        known = set(reports.glob("*.txt"))
        console = place.console(tiny_argv(place, end="reboot", options="reboot=t"), log="triple")
        for _ in range(2):
            console.wait_for("^tiny: init runs", BOOT_SECONDS)
            console.wait_for("^tiny: passed", BOOT_SECONDS, never="tiny: failed.*|Kernel panic.*")
        place.bulkhead("kill", "tiny")
        console.wait_exit(60)
        expect(set(reports.glob("*.txt")) == known, "a guest's triple fault, or a kill, left a crash report")
    with run.case("nothing-is-left"):
        place.expect_clean()


SCENARIOS = {
    "crash": (crash, ["report-after-SEGV", "report-after-ILL", "report-after-ABRT", "a-triple-fault-only-resets",
                      "nothing-is-left"]),
}
