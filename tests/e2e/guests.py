# SPDX-License-Identifier: Apache-2.0
"""Scenarios in which a stock Debian guest runs under `bulkhead run`."""
import io
import os
import socket
import subprocess
import tarfile

from harness import ROOT, FileServer, Shell, expect, free_port, sha256_file

BOOT_SECONDS = 300
SCRATCH_MB = 320


def pack_scripts(path, files):
    """tests/guests/ with its programs, and `files` (name in the archive -> path), as a tar file: the guest reads it straight
    from a block device."""
    top = ROOT / "tests" / "guests"
    found = {script.relative_to(top).as_posix(): script
             for folder in (top, top / "programs") for script in folder.iterdir() if script.is_file()}
    with tarfile.open(path, "w") as archive:
        for name, script in sorted((found | files).items()):
            data = script.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return path


def sparse(path, megabytes):
    with open(path, "wb") as stream:
        stream.truncate(megabytes << 20)
    return path


def start(place, *extra, cpus=1, memory="1G", name="guest", use_pty=True, kernel=None, initrd=None, files=None):
    """`bulkhead run` of the Debian guest, its root ephemeral, the scripts (and `files`) as the second disk."""
    guest = place.suite.guest
    scripts = pack_scripts(place.folder / "scripts.tar", files or {})
    return place.console(
        [place.program("bulkhead"), "run", name, "--kernel", kernel or guest.kernel,
         "--initrd", initrd or guest.initrd, "--append", guest.cmdline, "--cpus", cpus, "--memory", memory,
         "--disk", f"{guest.root},ephemeral", "--disk", f"{scripts},readonly", *extra], use_pty=use_pty)


def unpack_scripts(shell):
    shell.run("mkdir -p /opt/t && tar -C /opt/t -xf /dev/vdb", 60)


def power_off(run, place, console, shell):
    with run.case("power-off-ends-with-0"):
        console.send("poweroff\r")
        status = console.wait_exit(180)
        expect(status == 0, f"bulkhead run ended with {status} after the guest shut down\n{console.tail()}")
    with run.case("nothing-is-left"):
        place.expect_clean()


def one_processor(run, place):
    image_before = sha256_file(place.suite.guest.root)
    with run.case("boots-to-login"):
        console = start(place, cpus=1)
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
        expect(shell.run("nproc", 60) == "1", "the guest does not see one processor")
    with run.case("no-failed-units"):
        shell.run("systemctl is-system-running --wait", 180, check=False)
        failed = shell.run("systemctl --failed --no-legend --plain", 60)
        expect(not failed, f"failed units: {failed}")
    with run.case("stress-cpu-vm-matrix"):
        unpack_scripts(shell)
        shell.run("/opt/t/stress 20", 400)
    with run.case("kernel-log-is-clean"):
        bad = shell.run("dmesg -l emerg,alert,crit,err", 60)
        bad = [line for line in bad.splitlines() if "amd_pstate" not in line]
        expect(not bad, "the guest's kernel complains:\n" + "\n".join(bad))
    power_off(run, place, console, shell)
    with run.case("ephemeral-leaves-the-image"):
        expect(sha256_file(place.suite.guest.root) == image_before, "an ephemeral run changed the image")


def vectors(run, place):
    with run.case("boots-to-login"):
        console = start(place, "--cpu", "max", cpus=2)
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
    with run.case("avx-in-real-programs"):
        unpack_scripts(shell)
        shell.run("/opt/t/vectors 5", 600)
    power_off(run, place, console, shell)


def two_processors(run, place):
    server = FileServer(megabytes=32)
    scratch = sparse(place.folder / "scratch.img", SCRATCH_MB)
    ssh_port, tcp_port = free_port(), free_port()
    with run.case("boots-to-login"):
        console = start(place, "--disk", scratch, "--net", f"user,publish={ssh_port}:22,publish={tcp_port}:7000",
                        cpus=2)
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
        unpack_scripts(shell)
    with run.case("sees-two-processors"):
        expect(shell.run("nproc", 60) == "2", "the guest does not see two processors")

    with run.case("dhcp"):
        shell.run("/opt/t/net-check dhcp", 180)
    with run.case("fetch-32-MB-from-the-host"):
        digest = shell.run(f"/opt/t/net-check fetch http://10.0.2.2:{server.port}/", 300)
        expect(digest.endswith(server.digest), f"fetched {digest}, the host sent {server.digest}")
    with run.case("send-32-MB-to-the-host"):
        shell.run(f"/opt/t/net-check put http://10.0.2.2:{server.port}/back", 300)
        expect(server.received == [server.digest], "the host received other bytes than it had sent")
    with run.case("published-port"):
        console.send("/opt/t/net-check serve 7000\r")
        console.wait_for("listening", 60)
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=60) as peer:
            peer.sendall(server.content)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while block := peer.recv(4096):
                answer += block
        expect(answer.decode() == server.digest, f"the guest received other bytes: {answer!r}")
        shell.run("true", 60)
    with run.case("ssh-to-the-published-port"):
        result = place.run(["ssh", "-i", place.suite.guest.ssh_key, "-p", ssh_port, "-o", "BatchMode=yes",
                            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                            "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR",
                            "root@127.0.0.1", "cat /proc/sys/kernel/hostname"], seconds=120)
        expect(result.stdout.strip() == "bulkhead", f"ssh said: {result.stdout}{result.stderr}")

    with run.case("disk-write-256-MB"):
        shell.run("/opt/t/disk-check format /dev/vdc", 120)
        shell.run("/opt/t/disk-check write /dev/vdc 256", 400)
        shell.run("/opt/t/disk-check verify /dev/vdc", 300)
    with run.case("reboots-to-login"):
        console.send("reboot\r")
        shell.login(BOOT_SECONDS)
        unpack_scripts(shell)
    with run.case("disk-checksums-survive-reboot"):
        shell.run("/opt/t/disk-check verify /dev/vdc", 300)
        shell.run("umount /mnt/disk-check", 60)

    with run.case("stress-cpu-vm-matrix"):
        shell.run("/opt/t/stress 20", 400)
    power_off(run, place, console, shell)
    with run.case("file-system-is-clean-on-the-host"):
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        check = subprocess.run(["e2fsck", "-fn", scratch], capture_output=True, text=True, check=False, env=env)
        expect(check.returncode == 0, f"e2fsck: {check.stdout}{check.stderr}")
    with run.case("published-ports-are-free-again"):
        for port in (ssh_port, tcp_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
    server.close()


SCENARIOS = {
    "one-processor": (one_processor, [
        "boots-to-login", "no-failed-units", "stress-cpu-vm-matrix", "kernel-log-is-clean", "power-off-ends-with-0",
        "nothing-is-left", "ephemeral-leaves-the-image"]),
    "vectors": (vectors, [
        "boots-to-login", "avx-in-real-programs", "power-off-ends-with-0", "nothing-is-left"]),
    "two-processors": (two_processors, [
        "boots-to-login", "sees-two-processors", "dhcp", "fetch-32-MB-from-the-host", "send-32-MB-to-the-host",
        "published-port", "ssh-to-the-published-port", "disk-write-256-MB", "reboots-to-login",
        "disk-checksums-survive-reboot", "stress-cpu-vm-matrix", "power-off-ends-with-0", "nothing-is-left",
        "file-system-is-clean-on-the-host", "published-ports-are-free-again"]),
}
