#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/vhost-user.md says the same as the rule table in protocol/vhost_user.c.

If it fails, one of them was changed without the other: whoever writes a front-end or back-end by the page is misled.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BYTES = {"NONE": "–", "U64": "8", "STATE": "8", "ADDR": "40", "MEM_TABLE": "8 + 32n", "MEM_REG": "40", "LOG": "16",
         "INFLIGHT": "24", "CONFIG": "12 + n", "IOTLB": "32", "AREA": "24", "TRANSFER": "8", "VRING_FD": "8"}
REPLIES = {"U64": "u64", "STATE": "state", "CONFIG": "config", "INFLIGHT": "inflight"}
STATES = {"STATES_ALL": "all", "STATES_SET": "configured, running", "STATES_STOPPED": "open, configured"}


def code_rules():
    """What the table has, by name: payload, fewest and most fds, feature, states, ring stopped, reply."""
    text = (ROOT / "protocol/vhost_user.c").read_text()
    ids = dict(re.findall(r"VHOST_USER_(\w+) = (\d+),", (ROOT / "protocol/vhost_user.h").read_text()))
    row = re.compile(r"^\s+(ACKED|ACKED_STOPPED_RING|ANSWERED)\s*\(([^\n]*)\),$", re.M)
    rules = {}
    for macro, arguments in row.findall(text):
        name, payload, least, most, bit, states, *reply = [part.strip() for part in arguments.split(",")]
        feature = re.sub(r"BIT\((\w+)\)", r"\1", bit) if bit != "NO_BIT" else ""
        rules[name] = {"id": ids[name], "payload": payload, "least": least, "most": most, "feature": feature,
                       "states": states, "stopped": macro == "ACKED_STOPPED_RING",
                       "reply": reply[0] if reply else "", "reply_fds": reply[1] if reply else "0"}
    return rules


def page_rows():
    rows = {}
    back_end = False
    for line in (ROOT / "docs/vhost-user.md").read_text().splitlines():
        back_end = back_end or line.startswith("## Messages of the back-end")
        match = re.match(r"\| (\d+) \| (\w+) \|", line)
        if match:
            rows[("BACKEND_" if back_end else "") + match.group(2)] = [part.strip() for part in line.split("|")[1:-1]]
    return rows


def differences(name, rule, row):
    number, _, payload, fds, feature = row[:5]
    if number != rule["id"]:
        yield f"id {number}, in the code {rule['id']}"
    size = BYTES[rule["payload"]]
    if size != payload and not re.search(rf"\({re.escape(size)}[,)]", payload):
        yield f"payload '{payload}', in the code {rule['payload']} ({size})"
    if feature != rule["feature"]:
        yield f"needs '{feature}', in the code '{rule['feature']}'"
    expected = {("0", "0"): "", ("1", "1"): "1", ("0", "VHOST_USER_MEM_REGIONS_MAX"): "n"}.get(
        (rule["least"], rule["most"]), "1, or 0 with bit 8" if rule["payload"] == "VRING_FD" else "0 or 1")
    if fds != expected:
        yield f"fds '{fds}', in the code '{expected}'"
    if name.startswith("BACKEND_"):
        return
    states, reply = row[5], row[6]
    if not states.startswith(STATES[rule["states"]]) and name != "SET_PROTOCOL_FEATURES":
        yield f"states '{states}', in the code {rule['states']}"
    if ("ring stopped" in states) != rule["stopped"]:
        yield "ring stopped or not"
    if rule["reply"] and not reply.startswith(REPLIES[rule["reply"]]) or not rule["reply"] and reply:
        yield f"reply '{reply}', in the code '{rule['reply']}'"
    if (rule["reply_fds"] == "1") != ("fd" in reply):
        yield "the reply's descriptor"


def main():
    rules, rows = code_rules(), page_rows()
    problems = [f"{name}: only in the {'code' if name in rules else 'page'}" for name in rules.keys() ^ rows.keys()]
    for name in rules.keys() & rows.keys():
        problems += [f"{name}: {text}" for text in differences(name, rules[name], rows[name])]
    for problem in sorted(problems):
        print(problem)
    print(f"{len(rules)} messages, {len(problems)} differences")
    return 1 if problems or len(rules) < 40 else 0


sys.exit(main())
