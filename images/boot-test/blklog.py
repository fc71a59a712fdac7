"""What QEMU's blklogwrites wrote: every write, discard and flush of a disk, in order. The format is dm-log-writes', version 1."""

import os
import struct

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class Entry:
    __slots__ = ("flags", "start", "length", "data", "end")

    def __init__(self, flags, start, length, data, end):
        # Octets on the disk; where the data is in the log, if it has any; where the entry ends there.
        self.flags, self.start, self.length, self.data, self.end = flags, start, length, data, end


def entries(path):
    """All whole entries."""
    found = []
    size = os.path.getsize(path)
    with open(path, "rb") as log:
        magic, version, _, sector = struct.unpack("<QQQI", log.read(28))
        if magic != MAGIC or version != 1:
            raise ValueError(f"{path} is no log of writes")
        at = sector
        while at + sector <= size:
            log.seek(at)
            where, count, flags, extra = struct.unpack("<QQQQ", log.read(32))
            data = at + sector
            stored = 0 if flags & (DISCARD | MARK) else count * sector
            end = data + stored + (sector if flags & MARK and extra else 0)
            if end > size or (count == 0 and flags == 0):
                break
            found.append(Entry(flags, where * sector, count * sector, data if stored else None, end))
            at = end
    return found


def apply(entry, log, disk, first, last):
    """Writes what of the entry lies in the octets first..last of the disk, to `disk`, which begins at `first`."""
    start, end = max(entry.start, first), min(entry.start + entry.length, last)
    if start >= end or entry.flags & MARK:
        return
    disk.seek(start - first)
    if entry.data is None:
        zeros = b"\0" * (1 << 20)
        while start < end:
            start += disk.write(zeros[:end - start])
        return
    log.seek(entry.data + start - entry.start)
    disk.write(log.read(end - start))


def crash(found, cut, chance, log_path, disk_path, first=0, last=1 << 62):
    """The disk as a power cut after `cut` entries may leave it: everything up to the last flush is there; of what was
    written since, any part. `chance` is a random.Random. A discard may or may not have come to pass, too."""
    flushed = max((index + 1 for index, entry in enumerate(found[:cut]) if entry.flags & FLUSH), default=0)
    # All of it, none of it, or each write by itself.
    share = chance.choice([0.0, 0.5, 0.9, 1.0])
    with open(log_path, "rb") as log, open(disk_path, "r+b") as disk:
        for index, entry in enumerate(found[:cut]):
            if index < flushed or entry.flags & FUA or chance.random() < share:
                apply(entry, log, disk, first, last)
    return flushed, share
