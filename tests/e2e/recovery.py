# SPDX-License-Identifier: Apache-2.0
"""Device servers are killed under a guest that checks what it reads; the guest must see nothing but a pause."""
import json
import os
import pathlib
import random
import re
import signal
import time

from harness import FileServer, eventually, expect
from tiny import BOOT_SECONDS, tiny_argv

KILLS = int(os.environ.get("BULKHEAD_KILLS", "20"))
SECONDS_A_KILL = 0.5
QUIET_MS = (120, 600)  # between a server's return and its next death


def machine(place):
    result = place.bulkhead("ps", "--json")
    expect(result.returncode == 0, f"bulkhead ps: {result.stderr}")
    return json.loads(result.stdout)[0]


def process(place, name):
    return next(process for process in machine(place)["processes"] if process["name"] == name)


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def kill_again_and_again(place, name, kills, seed):
    """Kills a server at random moments, each time once its successor serves."""
    moments = random.Random(seed)
    for number in range(1, kills + 1):
        time.sleep(moments.uniform(*QUIET_MS) / 1000)  # the moment of death: any
        os.kill(process(place, name)["pid"], signal.SIGKILL)
        eventually(lambda count=number: process(place, name)["restarts"] >= count
                   and process(place, name)["state"] == "running", 60, f"return {number} of {name}")


def run_in_guest(console, command, answer, seconds):
    console.send(command + "\r")
    return console.wait_for(answer, seconds, never="register: failed.*|Kernel panic.*|I/O error.*")


def boot(place, *extra, cpus=1):
    console = place.console(tiny_argv(place, *extra, end="shell", cpus=cpus))
    console.wait_for("^tiny: passed", BOOT_SECONDS, never="tiny: failed.*|Kernel panic.*")
    console.send("\r")
    console.wait_for(r"# (\x1b\[6n)?$", 60)
    run_in_guest(console, "for m in $(cat /etc/modules); do insmod /lib/modules/*/$m; done; echo load''ed", "^loaded",
                 120)
    return console


def tool_disk(place):
    """disk-register on a disk of its own, as raw bytes."""
    data = pathlib.Path(place.program("disk-register")).read_bytes()
    path = place.folder / "tool.img"
    path.write_bytes(data + bytes(-len(data) % 4096))
    return path


def disk_server(run, place):
    scratch = place.folder / "scratch.img"
    scratch.touch()
    os.truncate(scratch, 64 << 20)
    for cpus in (1, 4):  # as many queues
        with run.case(f"kills-under-load-{cpus}-queues"):
            console = boot(place, "--disk", scratch, "--disk", f"{tool_disk(place)},readonly", cpus=cpus)
            run_in_guest(console, "dd if=/dev/vdb of=/register bs=4096 2>/dev/null; chmod +x /register; echo rea''dy",
                         "^ready", 60)
            vmm = process(place, "vmm")["pid"]
            fds_before = open_fds(vmm)
            console.send(f"/register /dev/vda {int(KILLS * SECONDS_A_KILL) + 5} 4\r")
            kill_again_and_again(place, "disk0", KILLS, seed=cpus)
            answer = console.wait_for(r"register: ok (\d+) p50=\d+ p99=\d+ max=\d+", 300,
                                      never="register: failed.*|Kernel panic.*|I/O error.*")
            print(f"# {cpus} queue(s), {KILLS} kills, in the guest (us): {answer[0]}", flush=True)
            expect(int(answer[1]) > 100, "hardly any operation was done")
            expect(open_fds(vmm) == fds_before, f"the VMM had {fds_before} descriptors, now {open_fds(vmm)}")
            run_in_guest(console, "dmesg | grep -ciE 'i/o error|reset' | sed 's/^/errors=/'", "^errors=0", 60)
            place.bulkhead("kill", "tiny")
            console.wait_exit(60)
            place.expect_clean()


def network_server(run, place):
    with run.case("connections-after-a-kill"):
        server = FileServer(megabytes=1)
        console = boot(place, "--net", "user")
        run_in_guest(console, "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2; "
                              "echo rea''dy", "^ready", 120)
        fetch = f"wget -q -O - http://10.0.2.2:{server.port}/file | sha256sum"
        for number in range(4):
            run_in_guest(console, fetch, server.digest, 120)
            os.kill(process(place, "net0")["pid"], signal.SIGKILL)
            eventually(lambda count=number + 1: process(place, "net0")["restarts"] >= count, 60, "its return")
        place.bulkhead("kill", "tiny")
        console.wait_exit(60)
        server.close()
        place.expect_clean()


SCENARIOS = {
    "disk-server-dies": (disk_server, ["kills-under-load-1-queues", "kills-under-load-4-queues"]),
    "network-server-dies": (network_server, ["connections-after-a-kill"]),
}
