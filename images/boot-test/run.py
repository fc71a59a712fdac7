#!/usr/bin/env python3
"""The boot test of the disk image: `images/boot-test/run.sh` starts it in its namespaces.

The image of target/image starts in an emulated machine, holds its sandbox ceremony, enrols a device over the cable, refuses
an update by a wrong key, takes a right one into its other slot, and leaves a broken one again. What is asked inside comes
with a second initramfs (probe/); the root file system is the image's own, bit by bit."""

import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mdns
from cable import BOX, FAR_END, NAME, Cable
from machine import Machine, accelerator

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.realpath(f"{HERE}/../..")
BEGAN = time.monotonic()
# What an emulated start may take on a machine that has much else to do.
PATIENCE = float(os.environ.get("BOOT_TEST_PATIENCE", "420"))


# Ended from outside, it takes its machine along.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def step(text):
    print(f"== {text} ({time.monotonic() - BEGAN:.0f}s)", flush=True)


def demand(what, why):
    if not what:
        raise AssertionError(why)


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


def place(name, again=False):
    """Where the image is, and a directory for what a test makes of it: empty, but for `again`."""
    image = os.path.realpath(os.environ.get("IMAGE_DIR", f"{REPOSITORY}/target/image"))
    work = os.environ.get("BOOT_TEST_DIR", f"{image}/{name}")
    if not again:
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
    return image, work


class Recipes:
    """Images and updates with the test's probe in their initramfs, made of the pieces that `make image` left."""

    def __init__(self, image, work):
        self.work = work
        self.place = f"{work}/image"
        os.makedirs(self.place)
        for name in ("boot", "root.squashfs"):
            os.symlink(f"{image}/{name}", f"{self.place}/{name}")
        self.key = f"{image}/update-key.pem" if not os.environ.get("UPDATE_KEY") else os.environ["UPDATE_KEY"]
        shutil.copytree(f"{HERE}/probe", f"{work}/probe/probe", symlinks=True)
        self.probe = f"{work}/probe.cpio"
        run("bash", "-c", f"cd {work}/probe && find . | cpio --quiet -o -H newc -R 0:0 | zstd -q >{self.probe}")
        self.environment = dict(os.environ, IMAGE_DIR=self.place)

    def bundle(self, version, key=None, words="", tries=1):
        # An emulated timer may be too late for the kernel's check of it, where the host has much else to do; that panics.
        run(f"{REPOSITORY}/images/disk/bundle.sh", "--version", version, "--key", key or self.key, "--initrd-extra", self.probe,
            "--cmdline", f"no_timer_check {words}".strip(), "--tries", str(tries), env=self.environment)
        return f"{self.place}/chancery-{version}.update"

    def disk(self, version, seed):
        self.bundle(version)
        run(f"{REPOSITORY}/images/disk/disk.sh", version, seed, env=self.environment)
        return f"{self.place}/chancery-{version}.img"

    def stick(self, *files):
        path = f"{self.work}/stick.img"
        if os.path.exists(path):
            os.remove(path)
        size = sum(os.path.getsize(file) for file in files) + (16 << 20)
        with open(path, "wb") as file:
            file.truncate(size >> 20 << 20)
        environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        run("mkfs.vfat", "-n", "CHANCERY", path, env=environment, stdout=subprocess.DEVNULL)
        run("mcopy", "-i", path, *files, "::")
        return path


def inside(machine):
    """What the probe found in the booted image."""
    # It may have begun before what was waited for last.
    machine.at = 0
    machine.wait("PROBE begin", PATIENCE)
    began = machine.at
    machine.wait("PROBE end", PATIENCE)
    lines = re.findall(r"^PROBE (\S+) (.*)$", machine.said()[began:machine.at], re.M)
    failed = [rest for word, rest in lines if word == "failed"]
    demand(not failed, f"failed units: {failed}")
    exposed = {rest.split()[0]: float(rest.split()[1]) for word, rest in lines if word == "exposure"}
    demand(set(exposed) == {"chancery-issuer", "chancery-web"}, f"no exposure: {exposed}")
    demand(all(level < 1.5 for level in exposed.values()), f"too much exposed: {exposed}")
    attempts = [rest for word, rest in lines if word == "attempt"]
    demand(len(attempts) >= 10, f"few attempts: {attempts}")
    demand(all(line.startswith("refused ") for line in attempts), f"not refused: {attempts}")
    return exposed, len(attempts)


def announced():
    """By multicast DNS the box answers for its own name, and announces the directory under it (RFC 6763)."""
    host, service = ("ca", "local"), ("_https", "_tcp", "local")
    instance = ("Chancery on ca",) + service
    wanted = {
        (host, mdns.A): BOX,
        (service, mdns.PTR): instance,
        (instance, mdns.SRV): (443, host),
        (instance, mdns.TXT): frozenset({"path=/acme/directory", "directory=https://ca.boot.test/acme/directory"}),
    }
    found = mdns.ask(FAR_END, BOX, list(wanted))
    for pair, value in wanted.items():
        demand(found.get(pair) == {value}, f"by multicast DNS {pair} is not {value}; all answers: {found}")
    step("by multicast DNS ca.local is the box, and Chancery on ca is the directory")


def answer(machine):
    """Somebody presses Enter and answers; so the box is what the seed says, but for the names that its CA has."""
    machine.wait("press Enter to answer questions here", PATIENCE)
    machine.type("")
    for question, typed in (("This box's name", "ca"), ("Its URL, for life", f"https://{NAME}"), ("The token's model", ""),
                            ("Hold it\\?", "yes")):
        machine.wait(question + r".*\]: ", PATIENCE)
        machine.type(typed)
    step("the questions at the console are answered")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="one boot: ceremony, enrolment, probe, a wrong signature")
    parser.add_argument("--console", action="store_true", help="one boot without a seed: the questions at the console are answered")
    given = parser.parse_args()
    image, work = place("boot-test")
    accel = accelerator()
    step(f"acceleration: {accel}")
    recipes = Recipes(image, work)
    base = recipes.disk("1.0.0", "" if given.console else f"{HERE}/seed")
    disk = f"{work}/disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", disk, "3G")
    cable = Cable(work)
    machine = Machine(work, disk, accel, tap="cable", tpm=True)
    try:
        step("power on")
        machine.start()
        if given.console:
            answer(machine)
        machine.wait("set up from", PATIENCE)
        machine.wait("the PIN is sealed to this machine's TPM", PATIENCE)
        machine.wait("the ceremony was held", PATIENCE)
        step("the ceremony was held, and the PIN is sealed to the TPM")
        match, _ = machine.wait(r"healthy: version (\S+) in (\S+) after (\d+) s", PATIENCE)
        step(f"{match[1]} serves from {match[2]}, {match[3]} s after its kernel began, {time.monotonic() - machine.started:.0f} s after power on"
             f", {machine.processor_seconds():.0f} s of the host's processors")
        first = match[2]
        match, _ = machine.wait(r"directory: (\S+); root SHA-256: ([0-9A-F:]+)", PATIENCE)
        demand(match[1] == "https://ca.boot.test/acme/directory", f"another directory: {match[1]}")
        demand(match[2].replace(":", "").lower() == cable.root(), "the console's fingerprint is not that of /root.pem")
        step("the console names the directory and the root's fingerprint")
        serials = [cable.enrol()]
        step(f"a device enrolled over the network: {serials[0]}")
        ports = cable.open_ports([21, 22, 23, 25, 53, 80, 111, 443, 2222, 5355, 8080, 8443, 9100, 9443])
        demand(ports == [80, 443], f"open ports: {ports}")
        exposed, attempts = inside(machine)
        step(f"inside: exposure {exposed}, {attempts} attempts refused")

        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{work}/strange.pem")
        wrong = recipes.bundle("9.0.0", key=f"{work}/strange.pem")
        machine.plug(recipes.stick(wrong))
        machine.wait(r"update refused: .*signature", PATIENCE)
        machine.unplug()
        os.remove(wrong)
        step("an update by another key is refused")
        if given.short or given.console:
            announced()
            return

        good = recipes.bundle("2.0.0", tries=3)
        machine.plug(recipes.stick(good))
        machine.wait(r"update 2\.0\.0 is in", PATIENCE)
        machine.wait(r"starting into the update", PATIENCE)
        began = time.monotonic()
        match, _ = machine.wait(r"healthy: version 2\.0\.0 in (\S+) ", PATIENCE)
        demand(match[1] != first, "the update is in the same slot")
        machine.wait(r"PROBE trial good", PATIENCE)
        step(f"2.0.0 serves from {match[1]} and is kept, {time.monotonic() - began:.0f} s after the restart")
        serials.append(cable.enrol("renew"))
        machine.unplug()

        machine.plug(recipes.stick(recipes.bundle("1.5.0")))
        machine.wait(r"update refused: .*1\.5\.0 is not newer", PATIENCE)
        machine.unplug()
        step("an older version is refused, though it is signed")

        broken = recipes.bundle("3.0.0", words="systemd.mask=chancery-web.service")
        machine.plug(recipes.stick(broken))
        machine.wait(r"starting into the update", PATIENCE)
        machine.wait(r"the update 3\.0\.0 is unhealthy", PATIENCE)
        step("3.0.0 is unhealthy and starts again")
        began = time.monotonic()
        machine.wait(r"healthy: version 2\.0\.0 in", PATIENCE)
        step(f"2.0.0 serves again, {time.monotonic() - began:.0f} s later")
        machine.wait(r"update refused: .*was tried", PATIENCE)
        step("and does not take the stick's update a second time")
        machine.unplug()
        serials.append(cable.enrol("renew"))
        demand(len(set(serials)) == 3, f"serials: {serials}")
        step("the device renewed after each")
        announced()
    finally:
        machine.kill()
        cable.close()
    step("done")


if __name__ == "__main__":
    main()
