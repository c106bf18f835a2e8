# SPDX-License-Identifier: Apache-2.0
"""Our programs against the stock programs of others, over vhost-user."""
import os

from guests import BOOT_SECONDS, sparse
from harness import FileServer, Shell, eventually, expect, sha256_file


def wait_for_socket(path, console):
    eventually(lambda: path.exists() or console.process.poll() is not None, 30, f"{path} never came")
    expect(console.process.poll() is None, f"{console.argv[0]} ended at start:\n{console.tail()}")


def qemu_front_end(run, place):
    """QEMU boots the Debian guest from our block server, with our network card."""
    guest = place.suite.guest
    image, before = guest.root, sha256_file(guest.root)
    path = place.folder / "blk.sock"
    net_path = place.folder / "net.sock"
    files = FileServer(megabytes=16)
    overlay = os.memfd_create("overlay", 0)
    with run.case("boots-to-login"):
        server = place.console([place.program("bulkhead-blk"), f"--socket-path={path}", f"--image={image}",
                                f"--overlay-fd={overlay}", "--serial=from-bulkhead"], log="blk", pass_fds=[overlay])
        card = place.console([place.program("bulkhead-net"), f"--socket-path={net_path}"], log="net")
        wait_for_socket(path, server)
        wait_for_socket(net_path, card)
        # Without vectors, because QEMU 7.2 crashes when a vhost-user network card uses MSI-X and there is no KVM.
        console = place.console([
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2", "-nodefaults",
            "-machine", "pc,memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=1024M,share=on",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-chardev", f"socket,id=blk,path={path}",
            "-device", "vhost-user-blk-pci,chardev=blk,num-queues=1", "-chardev", f"socket,id=net,path={net_path}",
            "-netdev", "vhost-user,id=net,chardev=net",
            "-device", "virtio-net-pci,netdev=net,host_mtu=16384,vectors=0", "-kernel", guest.kernel,
            "-initrd", guest.initrd, "-append", guest.cmdline], log="qemu")
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
    with run.case("serial-number"):
        serial = shell.run("cat /sys/block/vda/serial", 60)
        expect(serial == "from-bulkhead", f"the guest reads the serial number '{serial}'")
    with run.case("writes-read-back"):
        shell.run("dd if=/dev/urandom of=/root/data bs=1M count=32 status=none && sha256sum /root/data >/root/sum && "
                  "sync && echo 3 >/proc/sys/vm/drop_caches && sha256sum --quiet -c /root/sum", 300)
    with run.case("network-both-ways"):
        shell.run("systemctl restart systemd-networkd-wait-online", 120)
        url = f"http://10.0.2.2:{files.port}/"
        digest = shell.run(f"curl -sS -o /root/fetched {url} && sha256sum </root/fetched", 120)
        expect(digest.startswith(files.digest), f"fetched {digest}, the host sent {files.digest}")
        shell.run(f"curl -sS -T /root/fetched {url}", 120)
        expect(files.received == [files.digest], "the host received other bytes than it had sent")
    with run.case("discard"):
        shell.run("rm /root/data && sync && fstrim /", 120)
    with run.case("power-off"):
        console.send("poweroff\r")
        expect(console.wait_exit(120) == 0, "QEMU did not end with 0")
    with run.case("image-is-untouched"):
        expect(sha256_file(image) == before, "the overlay let a write through to the image")
    os.close(overlay)
    files.close()


def storage_daemon(run, place):
    """Our VMM, started by hand, boots the Debian guest from qemu-storage-daemon."""
    guest = place.suite.guest
    image = place.folder / "root.img"
    place.run(["cp", "--sparse=always", guest.root, image], seconds=120)
    path = place.folder / "qsd.sock"
    with run.case("boots-to-login"):
        server = place.console([
            "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={image}",
            "--export", f"type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=2,"
            f"addr.type=unix,addr.path={path}"], log="qsd")
        wait_for_socket(path, server)
        console = place.console([
            place.program("bulkhead-vmm"), "--kernel", guest.kernel, "--initrd", guest.initrd,
            "--append", guest.cmdline, "--cpus=2", "--memory=1073741824", "--console-fd=0",
            "--device", f"kind=blk,socket={path}"], log="vmm")
        shell = Shell(console)
        shell.login(BOOT_SECONDS)
    with run.case("writes-read-back"):
        shell.run("dd if=/dev/urandom of=/root/data bs=1M count=32 status=none && sha256sum /root/data >/root/sum && "
                  "sync && echo 3 >/proc/sys/vm/drop_caches && sha256sum --quiet -c /root/sum", 300)
    with run.case("power-off"):
        console.send("poweroff\r")
        expect(console.wait_exit(120) == 0, "bulkhead-vmm did not end with 0")


SCENARIOS = {
    "qemu-front-end": (qemu_front_end, ["boots-to-login", "serial-number", "writes-read-back", "network-both-ways", "discard",
                                        "power-off", "image-is-untouched"]),
    "storage-daemon": (storage_daemon, ["boots-to-login", "writes-read-back", "power-off"]),
}
