"""A question by multicast DNS on the cable, and what one host answers to it (RFC 6762)."""

import socket
import struct
import time

GROUP, PORT = "224.0.0.251", 5353
A, PTR, TXT, SRV = 1, 12, 16, 33


def encoded(name):
    """A tuple of labels, which may have spaces and dots in them."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name) + b"\0"


def read_name(data, at):
    """Labels from `at`, and where the name ends. Pointers lead backwards only, so it ends."""
    labels, end = [], None
    while data[at]:
        if data[at] >= 0xC0:
            to = struct.unpack_from(">H", data, at)[0] & 0x3FFF
            if to >= at:
                raise ValueError("a pointer that does not lead back")
            end = end or at + 2
            at = to
            continue
        labels.append(data[at + 1:at + 1 + data[at]].decode())
        at += 1 + data[at]
    return tuple(labels), end or at + 1


def records(data):
    """(name, type, value) of all records in an answer."""
    counts = struct.unpack_from(">6H", data)
    at = 12
    for _ in range(counts[2]):
        at = read_name(data, at)[1] + 4
    for _ in range(sum(counts[3:])):
        name, at = read_name(data, at)
        kind, _, _, length = struct.unpack_from(">HHIH", data, at)
        at += 10
        if kind == A:
            yield name, kind, socket.inet_ntoa(data[at:at + length])
        elif kind == PTR:
            yield name, kind, read_name(data, at)[0]
        elif kind == SRV:
            yield name, kind, (struct.unpack_from(">3H", data, at)[2], read_name(data, at + 6)[0])
        elif kind == TXT:
            texts, end = set(), at + length
            while at < end:
                texts.add(data[at + 1:at + 1 + data[at]].decode())
                at += 1 + data[at]
            at -= length
            yield name, kind, frozenset(texts)
        at += length


def ask(here, box, questions, seconds=30):
    """What the host `box` answers, from `here`, to (name, type) pairs: asked again until each has an answer or time is up."""
    question = struct.pack(">6H", 0, 0, len(questions), 0, 0, 0)
    question += b"".join(encoded(name) + struct.pack(">2H", kind, 1) for name, kind in questions)
    found = {}
    until = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here))
        asker.bind(("", PORT))
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(here))
        asker.settimeout(2)
        while time.monotonic() < until and not all(pair in found for pair in questions):
            asker.sendto(question, (GROUP, PORT))
            try:
                while True:
                    data, sender = asker.recvfrom(9000)
                    if sender[0] == box:
                        for name, kind, value in records(data):
                            found.setdefault((name, kind), set()).add(value)
            except TimeoutError:
                pass
    return found
