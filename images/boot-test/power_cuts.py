#!/usr/bin/env python3
"""Power cuts, for real: `images/boot-test/run.sh --power-cuts` starts it in its namespaces.

One emulated machine issues to devices that never stop asking, while QEMU's blklogwrites records every write and flush of its
disk. Disks as a power cut at some moment may leave them are then made of that record: what was flushed is there, of the rest
any part. For each the host checks that the file system is mended by its journal, that the log verifies, that every certificate
a device had in hand by then is in it, and that the program issues from there; some are started again as machines."""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import blklog
from cable import Cable
from judge import DEVICE, Judge, certificates
from machine import Machine, accelerator
from run import HERE, PATIENCE, REPOSITORY, Recipes, demand, place, run, step


def in_hand(cable, name):
    with open(cable.leaf(name)) as file:
        return certificates(file.read())[0]


class Device(threading.Thread):
    """Enrols again and again; for each certificate, how long the record of writes was when it was in hand."""

    def __init__(self, cable, index, log, until):
        super().__init__()
        self.cable, self.index, self.log, self.until = cable, index, log, until
        self.held = []

    def run(self):
        while time.monotonic() < self.until:
            try:
                name = f"device-{self.index}.boot.test"
                self.cable.enrol(name=name, fresh=True)
                self.held.append((os.path.getsize(self.log), in_hand(self.cable, name)))
            except (RuntimeError, subprocess.SubprocessError) as why:
                print(f"   a device was refused: {str(why)[-200:]}", flush=True)


def data_partition(disk):
    """First and last octet of chancery-data."""
    table = json.loads(subprocess.run(["sfdisk", "--json", disk], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                      env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")).stdout)
    part = [p for p in table["partitiontable"]["partitions"] if p["name"] == "chancery-data"][0]
    return part["start"] * 512, (part["start"] + part["size"]) * 512


def record(given, image, work, accel, cable, disk, base, log):
    """The machine under load. Leaves the disk as it was before, `base`; what was written to it since, `log`; and in
    released.json where in that record the load began, and every certificate with the place at which it was in hand."""
    demand(Recipes(image, work).disk("1.0.0", f"{HERE}/seed") == disk, "another disk")
    os.truncate(disk, 2 << 30)
    machine = Machine(work, disk, accel, tap="cable", form="raw")
    try:
        machine.start()
        machine.wait("healthy: version", PATIENCE)
        step("the ceremony was held")
        cable.root()
        cable.enrol(name=DEVICE)
        before = in_hand(cable, DEVICE)
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
    released = [(0, before)] + sorted(pair for device in devices for pair in device.held)
    with open(f"{work}/released.json", "w") as file:
        json.dump((quiet, released), file)


def cut_and_judge(given, chance, work, accel, cable, disk, base, log):
    """Disks of the record, cut at points by chance, judged; and some of them started."""
    with open(f"{work}/released.json") as file:
        quiet, released = json.load(file)
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
    judge = Judge(given.program, work, cable, whole)
    present = 0
    for number, cut in enumerate(cuts):
        crashed = f"{work}/crashed.img"
        run("cp", "--sparse=always", whole, crashed)
        flushed, share = blklog.crash(found, cut, chance, log, crashed, first, last)
        # In hand before the first write that is not there any more.
        by_then = [body for size, body in released if size <= found[cut - 1].end]
        try:
            judge.judge(crashed, by_then)
        except AssertionError as why:
            raise AssertionError(f"the disk cut after {cut} of {len(found)} writes, {share} of those since write {flushed}: {why}") from why
        present += len(by_then)
        if number % 10 == 9:
            step(f"{number + 1} crashed disks are whole and issue, {present} certificates looked for in them")
    step(f"{len(cuts)} crashed disks: file system, log and every certificate are there, and the program issues; "
         f"{judge.emptied} with an emptied token.object, at most {judge.longest:.1f} s until it serves")

    for cut in chance.sample(cuts, min(given.boots, len(cuts))):
        run("cp", "--sparse=always", base, disk)
        blklog.crash(found, cut, chance, log, disk)
        machine = Machine(work, disk, accel, tap="cable", form="raw")
        machine.at = len(machine.said())
        try:
            machine.start()
            machine.wait("healthy: version", PATIENCE)
            cable.enrol(name=DEVICE, fresh=True)
        finally:
            machine.kill()
        step(f"the disk cut after {cut} writes starts, and issues")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--boots", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=120, help="how long devices ask")
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--program", default=f"{REPOSITORY}/target/package/build/release/chancery")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--again", action="store_true", help="cuts the record of the run before, which was kept, once more")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    image, work = place("power-cuts", given.again)
    accel = accelerator()
    step(f"acceleration: {accel}; --seed {given.seed}")
    disk, base, log = f"{work}/image/chancery-1.0.0.img", f"{work}/base.img", f"{work}/writes.log"
    cable = Cable(work)
    try:
        if not given.again:
            record(given, image, work, accel, cable, disk, base, log)
        cut_and_judge(given, chance, work, accel, cable, disk, base, log)
    finally:
        cable.close()
    step("done")


if __name__ == "__main__":
    main()
