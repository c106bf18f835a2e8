# SPDX-License-Identifier: Apache-2.0
"""The guest's clocks against the host's, by bounds that hold however slow the host is; tests/bench/clock measures."""
import os
import signal
import time

import clock_guest
from harness import expect

TOLERANCE_NS = 50000  # 5 ppm of the ten seconds that this takes
STOP_SECONDS = 3


def expect_same(before, after, what):
    for name in ("RAW", "MONOTONIC"):
        low = after[name][0] - before[name][1]
        high = after[name][1] - before[name][0]
        expect(low <= TOLERANCE_NS and high >= -TOLERANCE_NS,
               f"{what}: the guest's {name} moved by {low / 1e3:.0f} to {high / 1e3:.0f} us against the host's")


def clock(run, place):
    initrd = clock_guest.build_initrd(place.folder)
    machine = clock_guest.Machine(clock_guest.vmm_argv(place.program("bulkhead-vmm"), place.suite.guest, initrd, 2))
    try:
        first = machine.offsets(3)
        with run.case("is-the-tsc"):
            expect(machine.clocksource == "tsc", f"the guest's clock source is {machine.clocksource}")
        with run.case("is-set-from-the-rtc"):
            # The RTC shows whole seconds.
            expect(-2e9 < first["REALTIME"][0] and first["REALTIME"][1] < 2e9,
                   f"the guest's time is off by {first['REALTIME'][0] / 1e9:.1f} s")
        with run.case("does-not-drift"):
            machine.ask("load 8", r"^load (\d+)")
            expect_same(first, machine.offsets(3), "under load")
        with run.case("goes-on-after-a-stop"):
            os.kill(machine.process.pid, signal.SIGSTOP)
            time.sleep(STOP_SECONDS)
            os.kill(machine.process.pid, signal.SIGCONT)
            expect_same(first, machine.offsets(3), "after a stop")
        with run.case("one-time-on-all-processors"):
            backwards = int(machine.ask("order 3000", r"^order (\d+)", 300).group(1))
            expect(backwards == 0, f"the TSC went backwards {backwards} times from one processor to the other")
    finally:
        machine.close()
    with run.case("nothing-is-left"):
        place.expect_clean()


SCENARIOS = {
    "clock": (clock, ["is-the-tsc", "is-set-from-the-rtc", "does-not-drift", "goes-on-after-a-stop", "one-time-on-all-processors",
                      "nothing-is-left"]),
}
