#!/usr/bin/env python3
"""Power cuts, for real: `images/boot-test/run.sh --power-cuts` starts it in its namespaces.

One emulated machine issues to devices that never stop asking, while QEMU's blklogwrites records every write and flush of its
disk. Disks as a power cut at some moment may leave them are then made of that record: what was flushed is there, of the rest
any part. For each the host checks that the file system is mended by its journal, that the log verifies, and that every certificate
a device had in hand by then is in it; some are started again."""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import blklog
from cable import Cable
from machine import Machine, accelerator
from run import HERE, PATIENCE, REPOSITORY, Recipes, demand, place, run, step


class Device(threading.Thread):
    """Enrols again and again; for each certificate, how long the record of writes was when it was in hand."""

    def __init__(self, cable, index, log, until):
        super().__init__()
        self.cable, self.index, self.log, self.until = cable, index, log, until
        self.held = []

    def run(self):
        while time.monotonic() < self.until:
            try:
                serial = self.cable.enrol(name=f"device-{self.index}.boot.test", fresh=True)
                self.held.append((os.path.getsize(self.log), serial))
            except (RuntimeError, subprocess.SubprocessError) as why:
                print(f"   a device was refused: {str(why)[-200:]}", flush=True)


def data_partition(disk):
    """First and last octet of chancery-data."""
    table = json.loads(subprocess.run(["sfdisk", "--json", disk], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                      env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")).stdout)
    part = [p for p in table["partitiontable"]["partitions"] if p["name"] == "chancery-data"][0]
    return part["start"] * 512, (part["start"] + part["size"]) * 512


def judge(program, work, image, held):
    """Checks the data partition in `image`, which is mended by it."""
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    mended = subprocess.run(["e2fsck", "-f", "-p", image], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    demand(mended.returncode in (0, 1), f"e2fsck: {mended.stdout.decode()[-2000:]}")
    again = subprocess.run(["e2fsck", "-f", "-n", image], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    demand(again.returncode == 0, f"e2fsck afterwards: {again.stdout.decode()[-2000:]}")
    state = f"{work}/state"
    shutil.rmtree(state, ignore_errors=True)
    os.makedirs(state)
    run("debugfs", "-R", f"rdump /lib/chancery {state}", image, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(f"{work}/chancery.toml", "w") as file:
        file.write(f'inherit = ["{REPOSITORY}/firmware-config/board/lab.toml"]\n[state]\ndir = "{state}/chancery"\n')
    chancery = [program, "--config", f"{work}/chancery.toml"]
    verified = subprocess.run(chancery + ["log", "verify"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    demand(verified.returncode == 0, f"log verify: {verified.stdout.decode()[-2000:]}")
    listed = subprocess.run(chancery + ["log", "list"], check=True, stdout=subprocess.PIPE).stdout.decode().lower()
    missing = [serial for serial in held if serial.lower().lstrip("0") not in listed]
    demand(not missing, f"certificates that devices have, and the log has not: {missing}")
    return mended.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--boots", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=120, help="how long devices ask")
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--program", default=f"{REPOSITORY}/target/package/build/release/chancery")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    chance = random.Random(given.seed)
    image, work = place("power-cuts")
    accel = accelerator()
    step(f"acceleration: {accel}; --seed {given.seed}")
    recipes = Recipes(image, work)
    disk = recipes.disk("1.0.0", f"{HERE}/seed")
    os.truncate(disk, 2 << 30)
    base, log = f"{work}/base.img", f"{work}/writes.log"
    cable = Cable(work)
    machine = Machine(work, disk, accel, tap="cable", form="raw")
    try:
        machine.start()
        machine.wait("healthy: version", PATIENCE)
        step("the ceremony was held")
        cable.root()
        held = [cable.enrol()]
        # What is in the host's memory only is no matter here: the record begins at what the machine believes to be its disk.
        machine.kill()
        run("cp", "--sparse=always", disk, base)
        with open(log, "wb"):
            pass
        machine = Machine(work, disk, accel, tap="cable", form="raw", blklog=log)
        machine.at = len(machine.said())
        machine.start()
        machine.wait("healthy: version", PATIENCE)
        step("started again, with every write recorded; devices ask")
        quiet = os.path.getsize(log)
        until = time.monotonic() + given.seconds
        devices = [Device(cable, index, log, until) for index in range(given.devices)]
        for device in devices:
            device.start()
        for device in devices:
            device.join()
    finally:
        machine.kill()
    released = [(0, held[0])] + sorted(pair for device in devices for pair in device.held)
    found = blklog.entries(log)
    loaded = [index for index, entry in enumerate(found) if entry.end > quiet]
    step(f"{len(released)} certificates, {len(found)} writes and flushes, {len(loaded)} of them under load")
    demand(len(released) > given.devices and len(loaded) > given.points, "hardly any load")

    first, last = data_partition(base)
    whole = f"{work}/data.img"
    run("dd", f"if={base}", f"of={whole}", "bs=1M", f"skip={first >> 20}", f"count={(last - first + (1 << 20) - 1) >> 20}", "conv=sparse",
        "status=none")
    os.truncate(whole, last - first)
    cuts = sorted(chance.sample(loaded, given.points))
    mended = present = 0
    for number, cut in enumerate(cuts):
        crashed = f"{work}/crashed.img"
        run("cp", "--sparse=always", whole, crashed)
        blklog.crash(found, cut, chance, log, crashed, first, last)
        # In hand before the first write that is not there any more.
        by_then = [serial for size, serial in released if size <= found[cut - 1].end]
        mended += judge(given.program, work, crashed, by_then)
        present += len(by_then)
        if number % 10 == 9:
            step(f"{number + 1} crashed disks are whole, {present} certificates looked for in them")
    step(f"{len(cuts)} crashed disks: file system, log and every certificate are there ({mended} of them mended by e2fsck)")

    for cut in chance.sample(cuts, min(given.boots, len(cuts))):
        run("cp", "--sparse=always", base, disk)
        blklog.crash(found, cut, chance, log, disk)
        machine = Machine(work, disk, accel, tap="cable", form="raw")
        machine.at = len(machine.said())
        try:
            machine.start()
            machine.wait("healthy: version", PATIENCE)
            cable.enrol(name="after.boot.test", fresh=True)
        finally:
            machine.kill()
        step(f"the disk cut after {cut} writes starts, and issues")
    cable.close()
    step("done")


if __name__ == "__main__":
    main()
