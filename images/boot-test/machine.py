"""An emulated machine with the image's disk in it: QEMU with UEFI firmware, a cable, sticks that can be put in, and a
serial console that is read for marker lines. Nothing waits without a limit."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"


class Late(Exception):
    """A marker did not come in time."""


def accelerator():
    """KVM where a guest really starts with it, else emulation in software."""
    if os.environ.get("BOOT_TEST_ACCEL"):
        return os.environ["BOOT_TEST_ACCEL"]
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        # A device that exists and does not work ends at once with an internal error.
        probe = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "64", "-display", "none",
             "-nodefaults", "-debugcon", "stdio", "-global", "isa-debugcon.iobase=0x402", "-bios", "/usr/share/ovmf/OVMF.fd"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            said = probe.communicate(timeout=5)[0]
        except subprocess.TimeoutExpired:
            probe.kill()
            said = probe.communicate()[0]
        if b"SecCoreStartup" in said:
            return "kvm"
    return "tcg,thread=multi"


class Machine:
    def __init__(self, work, disk, accel, tap=None, memory=1024, blklog=None, form="qcow2", tpm=False):
        self.work, self.disk, self.accel, self.tap, self.memory, self.tpm = work, disk, accel, tap, memory, tpm
        self.variables = f"{work}/variables.fd"
        self.console = f"{work}/console.log"
        self.form = form
        self.process = self.swtpm = None
        self.blklog = blklog
        self.at = 0
        if not os.path.exists(self.variables):
            shutil.copy(VARIABLES, self.variables)

    def start(self):
        """Switches it on. The console's file goes on where it was."""
        qmp = f"{self.work}/qmp"
        if os.path.exists(qmp):
            os.remove(qmp)
        cpu = "host" if self.accel == "kvm" else "max,la57=off"
        command = [
            "nice", "-n", os.environ.get("BOOT_TEST_NICE", "10"), "qemu-system-x86_64", "-accel", self.accel, "-cpu", cpu,
            "-machine", "q35", "-smp", "2", "-m", str(self.memory), "-display", "none", "-nodefaults",
            "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
            "-drive", f"if=pflash,format=raw,file={self.variables}",
            "-device", "virtio-rng-pci", "-device", "qemu-xhci",
            "-chardev", f"socket,id=console,path={self.work}/console,server=on,wait=off,logfile={self.console},logappend=on",
            "-serial", "chardev:console",
            "-qmp", f"unix:{qmp},server=on,wait=off",
        ]
        if self.blklog:
            command += [
                "-blockdev", f"driver=file,node-name=raw,filename={self.disk},cache.no-flush=on",
                "-blockdev", f"driver=file,node-name=log,filename={self.blklog},cache.no-flush=on",
                "-blockdev", "driver=blklogwrites,node-name=disk,file=raw,log=log,log-sector-size=512",
                "-device", "virtio-blk-pci,drive=disk,bootindex=1"]
        else:
            # What the host keeps in memory outlives the machine, which is all that a test asks.
            command += [
                "-drive", f"if=none,id=disk,format={self.form},file={self.disk},discard=unmap,cache=unsafe",
                "-device", "virtio-blk-pci,drive=disk,bootindex=1"]
        if self.tap:
            command += ["-netdev", f"tap,id=lan,ifname={self.tap},script=no,downscript=no",
                        "-device", "virtio-net-pci,netdev=lan,mac=52:54:00:12:34:56,romfile="]
        if self.tpm:
            # Ends with the machine; what it knows lies in its directory.
            os.makedirs(f"{self.work}/tpm", exist_ok=True)
            self.swtpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.work}/tpm", "--terminate",
                                           "--ctrl", f"type=unixio,path={self.work}/tpm/socket"], stdin=subprocess.DEVNULL)
            for _ in range(100):
                if os.path.exists(f"{self.work}/tpm/socket"):
                    break
                time.sleep(0.1)
            command += ["-chardev", f"socket,id=tpm,path={self.work}/tpm/socket", "-tpmdev", "emulator,id=tpm,chardev=tpm",
                        "-device", "tpm-crb,tpmdev=tpm"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.started = time.monotonic()
        for _ in range(100):
            if os.path.exists(qmp):
                break
            time.sleep(0.1)
        self.qmp = socket.socket(socket.AF_UNIX)
        self.qmp.settimeout(30)
        self.qmp.connect(qmp)
        self.answers = self.qmp.makefile("r")
        self.answers.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.answers.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")

    def plug(self, image):
        """Puts in a stick."""
        self.ask("blockdev-add", **{"driver": "raw", "node-name": "stick", "read-only": True,
                                    "file": {"driver": "file", "filename": image, "read-only": True}})
        self.ask("device_add", driver="usb-storage", id="usb", drive="stick")

    def unplug(self):
        self.ask("device_del", id="usb")
        for _ in range(50):
            try:
                self.ask("blockdev-del", **{"node-name": "stick"})
                return
            except RuntimeError:
                time.sleep(0.2)
        raise Late("the stick cannot be pulled")

    def type(self, line):
        """What somebody at the console types, and Enter. What the machine says meanwhile is in the file as well."""
        with socket.socket(socket.AF_UNIX) as keyboard:
            keyboard.connect(f"{self.work}/console")
            keyboard.sendall(line.encode() + b"\r")
            keyboard.settimeout(3)
            try:
                while keyboard.recv(65536):
                    pass
            except TimeoutError:
                pass

    def said(self):
        with open(self.console, errors="replace") as file:
            return file.read().replace("\r", "")

    def wait(self, pattern, seconds):
        """Waits until the console says what matches, after what was waited for last; the seconds it took."""
        began = time.monotonic()
        while True:
            text = self.said()
            match = re.compile(pattern).search(text, self.at)
            if match:
                self.at = match.end()
                return match, time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise Late(f"no line {pattern!r} within {seconds} s; the console's end:\n{text[-3000:]}")
            if self.process.poll() is not None:
                raise Late(f"the machine ended without {pattern!r}; the console's end:\n{text[-3000:]}")
            time.sleep(0.5)

    def processor_seconds(self):
        """What the machine has used of the host's processors."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        """The power goes."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.swtpm:
            self.swtpm.kill()
            self.swtpm.wait()
            self.swtpm = None
