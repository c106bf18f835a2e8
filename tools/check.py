#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds Bulkhead and runs every test: unit tests, unit tests under sanitizers, end to end.

Called by tools/check once the packages are there. Every phase runs even if an earlier one failed (but no test runs
from a build that failed), so that one run shows all that is wrong. A unit test is counted case by case where it
speaks TAP, else as one.
"""
import argparse
import json
import pathlib
import re
import selectors
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build-check"
BUILD_SANITIZE = ROOT / "build-check-sanitize"
SANITIZERS = ["-Db_sanitize=address,undefined", "-Db_lundef=false"]
QUIET_SECONDS = 30  # without a terminal, a line at least that often says that work goes on


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.complaints = []

    def fail(self, what):
        self.failed += 1
        self.complaints.append(what)


def say(text):
    print(f"check: {text}", flush=True)


def run_step(text, argv, log, counter=r"^\[(\d+/\d+)\]|^ *(\d+/\d+) ", echo=None):
    """Runs a command, its output in `log`, showing progress. Lines that match `echo` are shown as they come."""
    started = last_shown = time.monotonic()
    terminal = sys.stdout.isatty()
    at = ""
    if not terminal:
        say(f"{text} …")
    with open(log, "wb") as stream:
        process = subprocess.Popen([str(word) for word in argv], cwd=ROOT, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        selector = selectors.DefaultSelector()
        selector.register(process.stdout, selectors.EVENT_READ)
        pending = b""
        while True:
            ready = selector.select(1.0)
            if ready:
                block = process.stdout.read1(65536)
                if not block:
                    break
                stream.write(block)
                *lines, pending = (pending + block).split(b"\n")
                for line in (raw.decode("utf-8", "replace") for raw in lines):
                    match = re.search(counter, line)
                    if match:
                        at = next(group for group in match.groups() if group)
                    if echo and re.search(echo, line):
                        print(("\r\033[K" if terminal else "") + "  " + line, flush=True)
                        last_shown = time.monotonic()
            now = time.monotonic()
            if terminal:
                print(f"\r\033[Kcheck: {text} … {at} {now - started:.0f} s", end="", flush=True)
            elif now - last_shown > QUIET_SECONDS:
                say(f"{text} … {at} {now - started:.0f} s")
                last_shown = now
        status = process.wait()
    if terminal:
        print("\r\033[K", end="")
    seconds = time.monotonic() - started
    say(f"{text}: {'done' if status == 0 else f'ended with {status}'} in {seconds:.0f} s")
    return status


def show_tail(log, lines=40):
    text = pathlib.Path(log).read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    print("\n".join("  | " + line for line in text[-lines:]), flush=True)


def build(folder, text, options, tally):
    """Configures (once) and builds; True when there is something to test."""
    folder.mkdir(exist_ok=True)
    if not (folder / "build.ninja").exists():
        log = folder / "setup.log"
        if run_step(f"{text}: configuring", ["meson", "setup", folder, ROOT, *options], log) != 0:
            show_tail(log)
            tally.fail(f"{text}: meson setup ({log})")
            return False
    log = folder / "build.log"
    if run_step(f"{text}: building", ["ninja", "-C", folder], log) != 0:
        show_tail(log)
        tally.fail(f"{text}: build ({log})")
        return False
    return True


def count_unit_tests(folder, text, status, tally):
    """Reads meson's own record of the run: testlog.json has one line per test program, testlog.junit.xml the cases of
    those that speak TAP."""
    cases = {}  # program -> [passed, failed, skipped] out of the JUnit file
    junit = folder / "meson-logs" / "testlog.junit.xml"
    if junit.exists():
        for suite in ElementTree.parse(junit).getroot().iter("testsuite"):
            for case in suite.iter("testcase"):
                counts = cases.setdefault(suite.get("name", "").split(" / ", 1)[-1], [0, 0, 0])
                kind = 1 if case.find("failure") is not None or case.find("error") is not None else \
                    2 if case.find("skipped") is not None else 0
                counts[kind] += 1
    records = folder / "meson-logs" / "testlog.json"
    seen = 0
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else []:
        record = json.loads(line)
        seen += 1
        name, result = record["name"].split(" / ", 1)[-1], record["result"]
        passed, failed, skipped = cases.get(name, [0, 0, 0])
        good, skip = result in ("OK", "EXPECTEDFAIL"), result == "SKIP"
        if passed + failed + skipped == 0:  # one that does not speak TAP
            passed, failed, skipped = int(good), int(not good and not skip), int(skip)
        elif not good and not skip and failed == 0:  # it died between two cases
            failed = 1
        tally.passed += passed
        tally.skipped += skipped
        tally.failed += failed
        if failed:
            tally.complaints.append(f"{text}: {name}: {result}")
            output = (record.get("stdout", "") + record.get("stderr", "")).rstrip().split("\n")
            print("\n".join("  | " + line for line in output[-30:]), flush=True)
        for number, line in enumerate(record.get("stdout", "").split("\n")):
            if skipped and (" # SKIP" in line or (skip and number == 0 and line)):
                say(f"{text}: {name}: skipped: {line.strip()}")
    if seen == 0 or (status != 0 and not tally.failed):
        tally.fail(f"{text}: meson test ended with {status} after {seen} tests ({folder}/meson-logs)")


def unit_tests(folder, text, tally, extra=()):
    for name in ("testlog.json", "testlog.junit.xml"):
        (folder / "meson-logs" / name).unlink(missing_ok=True)
    status = run_step(text, ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *extra],
                      folder / "test.log")
    count_unit_tests(folder, text, status, tally)


def end_to_end(folder, tally):
    results = folder / "e2e.json"
    results.unlink(missing_ok=True)
    status = run_step("end to end", [ROOT / "tests" / "e2e" / "run", "--build", folder, "--json", results],
                      folder / "e2e.log", echo=r"^e2e |^    \||^guest-(image|kernels): .*: ")
    if not results.exists():
        show_tail(folder / "e2e.log")
        tally.fail(f"end to end: ended with {status} and no results ({folder}/e2e.log)")
        return
    for result in json.loads(results.read_text(encoding="utf-8")):
        setattr(tally, result["outcome"], getattr(tally, result["outcome"]) + 1)
        if result["outcome"] == "failed":
            first = result["detail"].split("\n")[0]
            tally.complaints.append(f"end to end: {result['scenario']}/{result['case']}: {first}")


def main():
    parser = argparse.ArgumentParser(prog="tools/check", description="Builds and runs every test.",
                                     epilog="Example: tools/check --quick")
    parser.add_argument("--quick", action="store_true", help="only the build and its unit tests (for developers)")
    parser.add_argument("--no-e2e", action="store_true", help="leave the end-to-end scenarios out")
    options = parser.parse_args()

    started = time.monotonic()
    tally = Tally()
    built = build(BUILD, "unit tests", ["--buildtype=debugoptimized", "-Dwerror=true"], tally)
    if built:
        unit_tests(BUILD, "unit tests", tally)
    if not options.quick:
        if build(BUILD_SANITIZE, "sanitized unit tests", ["--buildtype=debugoptimized", *SANITIZERS], tally):
            unit_tests(BUILD_SANITIZE, "sanitized unit tests", tally,
                       ["--no-suite", "tools", "--no-suite", "no-sanitize"])
        if built and not options.no_e2e:
            end_to_end(BUILD, tally)
    for complaint in tally.complaints:
        say(f"FAILED {complaint}")
    say(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
