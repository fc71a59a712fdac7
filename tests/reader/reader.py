#!/usr/bin/env python3
"""Reads a log of Chancery. Written from docs/records.md alone; needs Python 3.9 and nothing else.

    reader.py DIRECTORY                         one JSON object a line for each record
        --checkpoint FILE                       also hold the log against this checkpoint (repeatable)
        --certificates DIRECTORY                write each certificate as SERIAL.der
        --signatures                            verify checkpoints' signatures with the openssl command
    reader.py --payloads                        the same for payloads on stdin, each a line in hexadecimal

What is wrong is said on stderr, and the exit code is 1.
"""

import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile


class Wrong(Exception):
    """The octets are not what the page says they are."""


# ------------------------------------------------------------------------------------------------ CRC-32C

TABLE = []
for index in range(256):
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    TABLE.append(index)


def crc32c(*pieces):
    crc = 0xFFFFFFFF
    for piece in pieces:
        for octet in piece:
            crc = crc >> 8 ^ TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


# --------------------------------------------------------------------------------------- types of records
# A type is a function from a Payload to what JSON shows of it.


class Payload:
    def __init__(self, octets):
        self.octets = octets
        self.at = 0

    def take(self, count):
        end = self.at + count
        if end > len(self.octets):
            raise Wrong("the record ends inside a field")
        taken, self.at = self.octets[self.at : end], end
        return taken

    def varint(self, bits):
        value = 0
        for shift in range(0, bits, 7):
            octet = self.take(1)[0]
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                if value >= 1 << bits:
                    raise Wrong("an integer is too large for its type")
                return value
        raise Wrong("an integer is too long")

    def blob(self):
        return self.take(self.varint(64))


def u8(payload):
    return payload.take(1)[0]


def boolean(payload):
    octet = payload.take(1)[0]
    if octet > 1:
        raise Wrong("a boolean is neither 0 nor 1")
    return octet == 1


def u32(payload):
    return payload.varint(32)


def u64(payload):
    return payload.varint(64)


def string(payload):
    try:
        return payload.blob().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Wrong(f"a string is not UTF-8: {error}") from error


def octets(payload):
    return payload.blob().hex()


def sha256(payload):
    return payload.take(32).hex()


def serial(payload):
    return payload.take(16).hex()


def box(payload):
    return payload.take(16).hex()


def identifier(payload):
    return base64.urlsafe_b64encode(payload.take(16)).decode().rstrip("=")


leaf_index = u64


def timestamp(payload):
    return instant(payload.varint(64))


def option(kind):
    def read(payload):
        return kind(payload) if boolean(payload) else None

    return read


def listed(kind):
    def read(payload):
        return [kind(payload) for _ in range(payload.varint(64))]

    return read


def struct(*fields):
    def read(payload):
        return {name: kind(payload) for name, kind in fields}

    return read


def enum(*variants):
    def read(payload):
        number = payload.varint(32)
        if number >= len(variants):
            raise Wrong(f"variant {number} is not known")
        name, fields = variants[number]
        return {name: fields(payload)} if fields else name

    return read


def instant(milliseconds):
    """RFC 3339; Python's own dates end with the year 9999."""
    days, rest = divmod(milliseconds, 86_400_000)
    # Years begin in March here, so that the leap day is a year's last.
    eras, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month += 3 if month < 10 else -9
    year += 400 * eras + (month <= 2)
    seconds, milli = divmod(rest, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milli:03}"
    return f"{year:04}-{month:02}-{day:02}T{clock}Z"


ACTOR = enum(
    ("account", struct(("account", identifier), ("jws_sha256", sha256))),
    ("operator", struct(("uid", u32), ("user", string))),
    ("key", struct(("jws_sha256", sha256))),
)
SHOWN_BY = enum(("operator", None), ("witness", struct(("name", string), ("cosigned", timestamp))))
PREVIOUS_END = enum(("unknown", None), ("clean", None), ("unclean", None))
REQUESTER = enum(
    ("order", struct(("order", identifier), ("account", identifier), ("jws_sha256", sha256))),
    ("own", None),
)
CONFIG_PART = struct(("name", string), ("sha256", sha256))
REFUSAL = struct(("asked", string), ("why", string), ("account", option(identifier)), ("count", u64))
TOKEN = struct(
    ("label", string),
    ("manufacturer", string),
    ("model", string),
    ("serial", string),
    ("firmware", string),
    ("module", string),
    ("module_version", string),
)
VALIDATION = struct(("identifier", string), ("method", string), ("at", timestamp))
CRL = [
    ("number", u64),
    ("this_update", timestamp),
    ("next_update", timestamp),
    ("entries", u64),
    ("tbs_sha256", sha256),
]

CEREMONY = struct(
    ("at", timestamp),
    ("origin", string),
    ("root_sha256", sha256),
    ("issuing_sha256", sha256),
    ("log_key", octets),
    ("transcript_sha256", sha256),
)

# By number: the variant, its kind, its fields.
RECORDS = [
    ("CeremonyV1", "ceremony", CEREMONY),
    ("AccountRegisteredV1", "account", struct(("at", timestamp), ("account", identifier), ("jwk", string))),
    ("IntentV1", "intent", struct(
        ("at", timestamp), ("serial", serial), ("requester", REQUESTER), ("profile", string),
        ("issuer_sha256", sha256), ("tbs", octets), ("validations", listed(VALIDATION)))),
    ("IssuedV1", "issued", struct(
        ("at", timestamp), ("intent", leaf_index), ("serial", serial), ("algorithm", octets),
        ("signature", octets))),
    ("AbandonedV1", "abandoned", struct(
        ("at", timestamp), ("intent", leaf_index), ("serial", serial), ("reason", string))),
    ("CrlV1", "crl", struct(("at", timestamp), ("issuer_sha256", sha256), *CRL)),
    ("ClockAcceptedV1", "clock", struct(("at", timestamp), ("floor", timestamp))),
    ("AccountRegisteredV2", "account", struct(
        ("at", timestamp), ("account", identifier), ("jwk", string), ("ticket", option(string)))),
    ("KeyChangedV1", "keychange", struct(
        ("at", timestamp), ("account", identifier), ("jwk", string), ("former", sha256),
        ("jws_sha256", sha256))),
    ("AccountDeactivatedV1", "deactivated", struct(("at", timestamp), ("account", identifier), ("by", ACTOR))),
    ("TicketMintedV1", "ticket", struct(
        ("at", timestamp), ("ticket", string), ("uses", u32), ("expires", timestamp),
        ("constraints_sha256", sha256), ("by", ACTOR))),
    ("TicketRevokedV1", "ticket-end", struct(("at", timestamp), ("ticket", string), ("by", ACTOR))),
    ("RevokedV1", "revoked", struct(
        ("at", timestamp), ("serial", serial), ("intent", leaf_index), ("reason", option(u8)), ("by", ACTOR),
        ("validations", listed(VALIDATION)), ("crl", option(string)), ("not_after", timestamp),
        ("blocked_key", option(sha256)))),
    ("CrlV2", "crl", struct(("at", timestamp), ("issuer_sha256", sha256), ("crl", string), *CRL)),
    ("RefusedV1", "refused", struct(
        ("at", timestamp), ("from", timestamp), ("until", timestamp), ("refusals", listed(REFUSAL)))),
    ("RecallV1", "recall", struct(
        ("at", timestamp), ("profile", option(string)), ("serial", option(serial)),
        ("issued_from", option(timestamp)), ("issued_until", timestamp), ("start", timestamp),
        ("end", timestamp), ("explanation", option(string)), ("by", ACTOR))),
    ("RecallEndedV1", "recall-end", struct(("at", timestamp), ("recall", leaf_index), ("by", ACTOR))),
    ("LogKeyRotatedV1", "log-key", struct(
        ("at", timestamp), ("former", octets), ("key", octets), ("endorsement", octets),
        ("possession", octets), ("until", timestamp), ("transcript_sha256", sha256))),
    ("LogKeyRetiredV1", "log-key-end", struct(("at", timestamp), ("key", octets), ("by", option(ACTOR)))),
    ("StartedV1", "started", struct(
        ("at", timestamp), ("version", string), ("built", timestamp), ("program_sha256", option(sha256)),
        ("config_sha256", sha256), ("token", option(TOKEN)), ("previous", PREVIOUS_END), ("starts", u32),
        ("found", u64), ("torn", boolean))),
    ("ConfigChangedV1", "config", struct(
        ("at", timestamp), ("former", option(sha256)), ("sha256", sha256), ("parts", listed(CONFIG_PART)),
        ("changed", option(listed(string))), ("unlisted", u32))),
    ("IssuerAddedV1", "issuer", struct(
        ("at", timestamp), ("name", string), ("line", string), ("certificate", octets), ("root_sha256", sha256),
        ("supersedes", option(sha256)), ("crl", string), ("transcript_sha256", sha256))),
    ("RootAddedV1", "root", struct(
        ("at", timestamp), ("name", string), ("certificate", octets), ("former_sha256", sha256),
        ("by_former", octets), ("of_former", octets), ("transcript_sha256", sha256))),
    ("AuthorityRetiredV1", "authority-end", struct(
        ("at", timestamp), ("certificate_sha256", sha256), ("by", option(ACTOR)))),
    ("CeremonyHeldV1", "ceremony", struct(
        ("at", timestamp), ("act", string), ("ceremony", string), ("held", timestamp), ("by", option(ACTOR)),
        ("transcript_sha256", sha256))),
    ("RestoredV1", "restored", struct(
        ("at", timestamp), ("size", u64), ("root", sha256), ("made", timestamp), ("backup_sha256", sha256),
        ("shown", SHOWN_BY), ("by", ACTOR))),
    ("LogSucceededV1", "log-begun", struct(
        ("ceremony", CEREMONY), ("at", timestamp), ("origin", string), ("size", u64), ("root", sha256),
        ("first", sha256), ("checkpoint", string), ("unknown_from", timestamp), ("unknown_until", timestamp),
        ("backup_sha256", sha256), ("by", ACTOR))),
    ("EpochTakenV1", "epoch", struct(
        ("at", timestamp), ("epoch", u64), ("holder", box), ("held", boolean), ("by", ACTOR))),
    ("FormatRaisedV1", "format", struct(
        ("at", timestamp), ("from", u32), ("to", u32), ("version", string), ("by", ACTOR))),
]


def record(stored):
    """What JSON shows of a payload, but for where it lies."""
    payload = Payload(stored)
    try:
        number = payload.varint(32)
        if number >= len(RECORDS):
            raise Wrong(f"variant {number} is not known")
        variant, kind, fields = RECORDS[number]
        shown = {"kind": kind, "record": variant, **fields(payload)}
        if payload.at != len(stored):
            raise Wrong(f"{len(stored) - payload.at} octets follow the record")
    except Wrong:
        shown = {"kind": "unknown", "bytes": stored.hex()}
    shown["leaf_hash"] = leaf_hash(stored).hex()
    return shown


# --------------------------------------------------------------------------------------------- the tree


def leaf_hash(stored):
    return hashlib.sha256(b"\0" + stored).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The roots of the complete subtrees, largest first: enough to append and to state the root."""

    def __init__(self):
        self.size = 0
        self.subtrees = []

    def push(self, leaf):
        size = self.size
        while size & 1:
            leaf = node_hash(self.subtrees.pop(), leaf)
            size >>= 1
        self.subtrees.append(leaf)
        self.size += 1

    def root(self):
        if not self.subtrees:
            return hashlib.sha256().digest()
        root = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            root = node_hash(left, root)
        return root


# ------------------------------------------------------------------------------------- segments and frames

HEADER = 64
FRAME = 16
MOST = 65_535


def integer(stored, at, count):
    return int.from_bytes(stored[at : at + count], "little")


def segments(directory):
    """(name, first leaf, base, origin, content) of each segment, in order."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".seg") and len(name) == 24)
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            content = file.read()
        header = content[:HEADER]
        if len(header) < HEADER or header[:8] != b"CHANCLOG" or crc32c(header[:60]) != integer(header, 60, 4):
            raise Wrong(f"{name}: its header does not read back")
        if integer(header, 8, 2) != 1 or integer(header, 10, 2) != 0:
            raise Wrong(f"{name}: format {integer(header, 8, 2)} is not known")
        first = integer(header, 12, 8)
        if name != f"{first:020}.seg":
            raise Wrong(f"{name}: it is not the segment its name says")
        yield name, first, integer(header, 20, 8), header[28:60], content


def frame(content, at, offset):
    """(payload, durable) of the frame at an octet of a segment, None where there is no good one."""
    length = integer(content, at, 4)
    if at + FRAME > len(content) or not 0 < length <= MOST or at + FRAME + length > len(content):
        return None
    payload = content[at + FRAME : at + FRAME + length]
    durable = integer(content, at + 8, 8)
    if durable > offset:
        return None
    if crc32c(content[at : at + 4], content[at + 8 : at + 16], payload) != integer(content, at + 4, 4):
        return None
    return payload, durable


def frames(directory, complain):
    """(leaf, name, octet, payload) of every record."""
    leaf, offset, found = 0, 0, list(segments(directory))
    if not found:
        raise Wrong(f"{directory} holds no log")
    for n, (name, first, base, origin, content) in enumerate(found):
        if (first, base) != (leaf, offset):
            raise Wrong(f"{name}: records before it are missing")
        if origin != found[0][3]:
            raise Wrong(f"{name}: it is of another log")
        at, following = HEADER, found[n + 1] if n + 1 < len(found) else None
        while following is None or offset < following[2]:
            good = frame(content, at, offset)
            if good is None:
                break
            yield leaf, name, at, good[0]
            leaf, at, offset = leaf + 1, at + FRAME + len(good[0]), offset + FRAME + len(good[0])
        if following is None:
            remains = content[at:].rstrip(b"\0")
            for behind in range(len(remains)):
                place = offset + behind
                if offset < integer(content, at + behind + 8, 8) <= place and frame(content, at + behind, place):
                    raise Wrong(f"{name} at octet {at}: this was durable once, and is damaged")
            if remains:
                complain(f"{name} at octet {at}: the remains of an unfinished write", fatal=False)
        elif offset != following[2]:
            raise Wrong(f"{name} at octet {at}: damaged")


# ------------------------------------------------------------------------------------------- checkpoints


class Checkpoint:
    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            note = file.read()
        try:
            text, lines = note.split("\n\n", 1)
            self.text = text + "\n"
            self.origin, size, root = text.split("\n")[:3]
            self.size, self.root = int(size), base64.b64decode(root, validate=True)
            self.signatures = []
            for line in lines.splitlines():
                dash, name, signed = line.split(" ")
                signed = base64.b64decode(signed, validate=True)
                if dash != "\u2014":
                    raise Wrong(f"{path}: not a signature line")
                self.signatures.append((name, signed[:4], signed[4:]))
        except ValueError as error:
            raise Wrong(f"{path}: not a checkpoint: {error}") from error

    def signed_by(self, spki):
        """Whether a key of the log signed it; asks openssl."""
        ed25519, key_id = len(spki) == 44, note_key_id(self.origin, spki)
        for name, own_id, signature in self.signatures:
            if name != self.origin or own_id != key_id:
                continue
            message = self.text.encode()
            if not ed25519:
                stamp, kind, length, signature = signature[:8], signature[8:10], signature[10:12], signature[12:]
                if kind != b"\4\3" or int.from_bytes(length, "big") != len(signature):
                    return False
                message = b"\0\1" + stamp + self.size.to_bytes(8, "big") + self.root
            return openssl(spki, message, signature, ed25519)
        return False


def note_key_id(origin, spki):
    key = b"\1" + spki[12:] if len(spki) == 44 else b"\5" + hashlib.sha256(spki).digest()
    return hashlib.sha256(origin.encode() + b"\n" + key).digest()[:4]


def vkey(origin, spki):
    typed = b"\1" + spki[12:] if len(spki) == 44 else b"\5" + spki
    return f"{origin}+{note_key_id(origin, spki).hex()}+{base64.b64encode(typed).decode()}"


def is_handed_over(origin, rotation):
    """Whether the former key and the new one signed the statement that names both; asks openssl."""
    former, key = bytes.fromhex(rotation["former"]), bytes.fromhex(rotation["key"])
    statement = f"chancery log key rotation v1\n{vkey(origin, former)}\n{vkey(origin, key)}\n".encode()
    return all(
        openssl(spki, statement, bytes.fromhex(rotation[signature]), len(spki) == 44)
        for spki, signature in ((former, "endorsement"), (key, "possession"))
    )


def openssl(spki, message, signature, ed25519):
    with tempfile.TemporaryDirectory() as directory:
        def kept(name, content):
            path = os.path.join(directory, name)
            with open(path, "wb") as file:
                file.write(content)
            return path

        key, text, made = kept("key", spki), kept("text", message), kept("made", signature)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", key, "-sigfile", made]
        command += ["-rawin", "-in", text] + ([] if ed25519 else ["-digest", "sha256"])
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


# ------------------------------------------------------------------------------------------ certificates


def der(tag, content):
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def certificate(intent, issued):
    signature = der(0x03, b"\0" + bytes.fromhex(issued["signature"]))
    return der(0x30, bytes.fromhex(intent["tbs"]) + bytes.fromhex(issued["algorithm"]) + signature)


# -------------------------------------------------------------------------------------------------- main


def show(shown):
    print(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))


def read(arguments):
    wrong = []

    def complain(text, fatal=True):
        print(text, file=sys.stderr)
        if fatal:
            wrong.append(text)

    paths = arguments.checkpoint or []
    beside = os.path.join(arguments.directory, "checkpoint")
    if os.path.exists(beside):
        paths = paths + [beside]
    checkpoints = [Checkpoint(path) for path in paths]
    tree, intents, keys, origin = Tree(), {}, [], None
    # Of a log that goes on for another: that one's tree, and how many leaves are its own.
    former, former_root, carried = None, None, 0
    roots = {0: tree.root()}
    try:
        for leaf, name, octet, payload in frames(arguments.directory, complain):
            shown = {"leaf": leaf, **record(payload)}
            shown.update(segment=name, octet=octet, octets=len(payload))
            show(shown)
            tree.push(leaf_hash(payload))
            if any(checkpoint.size == tree.size for checkpoint in checkpoints):
                roots[tree.size] = tree.root()
            variant = shown.get("record")
            if former and leaf < carried:
                former.push(leaf_hash(payload))
                if former.size == carried and former.root().hex() != former_root:
                    complain(f"leaf {leaf}: the leaves so far are not those of the log before this one")
            if (leaf == 0) != (variant in ("CeremonyV1", "LogSucceededV1")):
                complain(f"leaf {leaf}: the ceremony is the first record, and only that")
            elif variant == "LogSucceededV1":
                first = shown["ceremony"]
                origin, carried = first["origin"], shown["size"]
                keys.append([bytes.fromhex(first["log_key"]), 0, None])
                former, former_root = Tree(), shown["root"]
                former.push(bytes.fromhex(shown["first"]))
            elif variant == "CeremonyV1":
                origin = shown["origin"]
                keys.append([bytes.fromhex(shown["log_key"]), 0, None])
            elif variant in ("LogKeyRotatedV1", "LogKeyRetiredV1") and leaf < carried:
                pass
            elif variant == "LogKeyRotatedV1":
                if arguments.signatures and not is_handed_over(origin, shown):
                    complain(f"leaf {leaf}: the former log key and the new one did not both sign for it")
                keys.append([bytes.fromhex(shown["key"]), leaf + 1, None])
            elif variant == "LogKeyRetiredV1":
                for term in keys:
                    if term[0].hex() == shown["key"] and term[2] is None:
                        term[2] = leaf
            elif variant == "IntentV1":
                intents[leaf] = shown
            elif variant == "AbandonedV1":
                intents.pop(shown["intent"], None)
            elif variant == "IssuedV1":
                intent = intents.pop(shown["intent"], None)
                if intent is None or intent["serial"] != shown["serial"]:
                    complain(f"leaf {leaf}: there is no such intent")
                elif arguments.certificates:
                    path = os.path.join(arguments.certificates, shown["serial"] + ".der")
                    with open(path, "wb") as file:
                        file.write(certificate(intent, shown))
    except Wrong as error:
        complain(str(error))
    for checkpoint in checkpoints:
        if checkpoint.origin != origin:
            complain(f"{checkpoint.path}: it is of another log, {checkpoint.origin}")
        elif roots.get(checkpoint.size) != checkpoint.root:
            complain(f"{checkpoint.path}: the first {checkpoint.size} records are not those it was signed for")
        elif arguments.signatures:
            signers = [key for key, least, most in keys
                       if least <= checkpoint.size and (most is None or checkpoint.size <= most)]
            if not signers or not all(checkpoint.signed_by(key) for key in signers):
                complain(f"{checkpoint.path}: its signature does not verify")
    root = base64.b64encode(tree.root()).decode()
    print(f"{tree.size} records, root {root}, {len(checkpoints)} checkpoints", file=sys.stderr)
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--checkpoint", action="append")
    parser.add_argument("--certificates")
    parser.add_argument("--signatures", action="store_true")
    parser.add_argument("--payloads", action="store_true")
    arguments = parser.parse_args()
    if arguments.payloads:
        for line in sys.stdin:
            show(record(bytes.fromhex(line)))
        return 0
    if arguments.directory is None:
        parser.error("which directory?")
    return read(arguments)


if __name__ == "__main__":
    sys.exit(main())
