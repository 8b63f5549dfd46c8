"""Merkle trees, checkpoints, certificates, policies, trust bundles and tlog-proofs
(docs/formats.md, "Digests", "Checkpoints and certificates", "Policies", "Trust bundles", "Receipts").

Every reader of a text here ends by writing what it read and comparing: one meaning, one byte string.
"""
import base64
import binascii
import re
from collections import namedtuple

from crypto import ED25519, check_key, digest, sha256, u64be, verify
from wire import Refused, need

MAX_63 = 2**63 - 1
MAX_PROOF = 114893


def leaf_hash(leaf):
    return sha256(b"\x00" + leaf)


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def tree_hash(hashes):
    """The RFC 6962 root over leaf hashes."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def check_inclusion(leaf, index, size, proof, root):
    """RFC 9162, section 2.1.3.2, or Refused."""
    need(index < size, "index %d is not below the size %d" % (index, size))
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        need(sn > 0, "inclusion proof too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "inclusion proof too short")
    need(r == root, "inclusion proof leads to %s, the root is %s" % (r.hex(), root.hex()))


def b64(text, length=None):
    """Standard base64 with padding, in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("not base64: %.40s" % text) from None
    need(base64.b64encode(data).decode() == text, "base64 with set padding bits")
    need(length is None or len(data) == length, "base64 of %d bytes, want %s" % (len(data), length))
    return data


def decimal(text, largest=MAX_63):
    need(re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII), "not a decimal number: %.40s" % text)
    need(int(text) <= largest, "number above %d" % largest)
    return int(text)


def lines(data):
    """The lines of a text in UTF-8 that ends in a newline."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None
    need(text.endswith("\n"), "no final newline")
    return text[:-1].split("\n")


def check_name(name):
    need(re.fullmatch(r"[!-*,-~]{1,200}", name), "not a key name: %.40s" % name)
    return name


def note_key_id(name, kind, key):
    return sha256(name.encode() + b"\n" + bytes([kind]) + key)[:4]


# Checkpoints and certificates

LOG, COSIGNER = 1, 4  # signature types
Certificate = namedtuple("Certificate", "origin size root body log cosignatures")
Signature = namedtuple("Signature", "name key_id time signature")


def parse_certificate(data):
    need(len(data) <= 24576, "certificate of %d bytes" % len(data))
    text = lines(data)
    need(len(text) >= 6 and text[3] == "", "a certificate is three lines, an empty one, and signatures")
    origin, size, root = check_name(text[0]), decimal(text[1]), b64(text[2], 32)
    need((size == 0) == (root == tree_hash([])), "the root of no leaves, or no leaves with another")
    signatures = []
    for i, line in enumerate(text[4:]):
        fields = line.split(" ")
        need(len(fields) == 3 and fields[0] == "\u2014", "not a signature line: %.40s" % line)
        blob = b64(fields[2], 68 if i == 0 else 76)
        time = None if i == 0 else int.from_bytes(blob[4:12], "big")
        need(i == 0 or 1 <= time <= MAX_63, "cosignature at %s" % time)
        signatures.append(Signature(check_name(fields[1]), blob[:4], time, blob[-64:]))
    log, cosignatures = signatures[0], signatures[1:]
    need(log.name == origin, "the first signature is by %s, not by the log %s" % (log.name, origin))
    need(1 <= len(cosignatures) <= 64, "%d cosignatures" % len(cosignatures))
    names = [s.name for s in cosignatures]
    need(all(a < b for a, b in zip(names, names[1:])), "cosignatures do not ascend by distinct name")
    return Certificate(origin, size, root, "\n".join(text[:3]).encode() + b"\n", log, cosignatures)


def median_time(certificate):
    """The lower median of the time stamps."""
    times = sorted(s.time for s in certificate.cosignatures)
    return times[(len(times) - 1) // 2]


# Policies

Policy = namedtuple("Policy", "origin logs witnesses groups quorum")


def parse_vkey(text, kind):
    fields = text.split("+", 2)
    need(len(fields) == 3, "not a verifier key: %.60s" % text)
    name, blob = check_name(fields[0]), b64(fields[2], 33)
    need(blob[0] == kind, "verifier key of type %d, want %d" % (blob[0], kind))
    need(fields[1] == note_key_id(name, kind, blob[1:]).hex(), "key ID of %s" % name)
    check_key(bytes([ED25519]) + blob[1:], ED25519)
    return name, blob[1:]


def parse_policy(text):
    """A policy from its lines. witnesses: member name -> (key name, key); groups: name -> (threshold, members)."""
    need(sum(len(line.encode()) + 1 for line in text) <= 65536, "policy too long")
    logs, witnesses, groups, quorum, stage = [], {}, {}, None, 0
    for line in text:
        fields = line.split(" ")
        need(fields[0] in ("log", "witness", "group", "quorum"), "not a policy line: %.60s" % line)
        position = ("log", "witness", "group", "quorum").index(fields[0])
        need(position >= stage and quorum is None, "policy lines out of order")
        stage = position
        if fields[0] == "log":
            need(len(fields) == 2, "log VKEY")
            need(not logs or logs[-1][2] < fields[1], "log lines do not ascend")
            logs.append(parse_vkey(fields[1], LOG) + (fields[1],))
        elif fields[0] == "witness":
            need(len(fields) == 3, "witness NAME VKEY")
            need(check_name(fields[1]) != "none" and max(witnesses, default="") < fields[1], "witness lines do not ascend")
            witnesses[fields[1]] = parse_vkey(fields[2], COSIGNER)
        elif fields[0] == "group":
            need(len(fields) >= 4, "group NAME THRESHOLD MEMBER..")
            name, members = check_name(fields[1]), fields[3:]
            need(name not in witnesses and name not in groups and name != "none", "two members are named %s" % name)
            need(all(m in witnesses or m in groups for m in members), "group %s has an unknown member" % name)
            groups[name] = ({"any": 1, "all": len(members)}.get(fields[2]) or decimal(fields[2]), members)
            need(1 <= groups[name][0] <= len(members), "threshold of group %s" % name)
        else:
            need(len(fields) == 2 and (fields[1] in witnesses or fields[1] in groups), "quorum NAME")
            quorum = fields[1]
    need(quorum is not None and 1 <= len(logs) <= 64 and 1 <= len(witnesses) <= 64 and len(groups) <= 32, "lines missing, or too many")
    need(all(name == logs[0][0] for name, _, _ in logs), "logs of several origins")
    keys = [key for _, key, _ in logs] + [key for _, key in witnesses.values()]
    need(len(set(keys)) == len(keys), "a public key twice")
    names = [name for name, _ in witnesses.values()]
    need(len(set(names)) == len(names), "a key name twice")
    used = [m for _, members in groups.values() for m in members]
    need(len(set(used)) == len(used), "a member of two groups")
    return Policy(logs[0][0], [(name, key) for name, key, _ in logs], witnesses, groups, quorum)


def _reached(policy, name, signed):
    if name in policy.witnesses:
        return name in signed
    threshold, members = policy.groups[name]
    return sum(_reached(policy, m, signed) for m in members) >= threshold


def check_certificate(policy, c):
    """Refused unless the policy accepts the certificate (docs/formats.md, "Policies")."""
    need(c.origin == policy.origin, "certificate of %s, the policy is about %s" % (c.origin, policy.origin))
    need(any(c.log.key_id == note_key_id(name, LOG, key) and verify(bytes([ED25519]) + key, c.body, c.log.signature)
             for name, key in policy.logs), "no log key made the log signature")
    by_key_name = {name: (member, key) for member, (name, key) in policy.witnesses.items()}
    signed = set()
    for s in c.cosignatures:
        need(s.name in by_key_name, "cosignature by %s, which the policy does not know" % s.name)
        member, key = by_key_name[s.name]
        need(s.key_id == note_key_id(s.name, COSIGNER, key), "key ID of %s" % s.name)
        message = b"cosignature/v1\ntime %d\n" % s.time + c.body
        need(verify(bytes([ED25519]) + key, message, s.signature), "cosignature of %s does not verify" % s.name)
        signed.add(member)
    need(_reached(policy, policy.quorum, signed), "%d cosignatures do not reach the quorum" % len(signed))
    need(not any(_reached(policy, policy.quorum, signed - {m}) for m in signed), "a surplus cosignature")


# Trust bundles


class TrustBundle:
    """What a verifier is given beforehand: epochs of (last tree size or 0, policy)."""

    def __init__(self, data):
        need(len(data) <= 8388608, "trust bundle of %d bytes" % len(data))
        text = lines(data)
        need(text[0] == "lacre/trust/v1", "not a trust bundle")
        self.digest, self.epochs, at = digest("trustbundle", data), [], 1
        while at < len(text):
            fields = text[at].split(" ")
            need(len(fields) == 3 and fields[0] == "epoch", "epoch LAST LINES")
            last, count = decimal(fields[1]), decimal(fields[2])
            need(count <= len(text) - at - 1, "epoch of %d lines, there are fewer" % count)
            before = self.epochs[-1][0] if self.epochs else -1
            need(before != 0 and (last == 0 or last > before), "epochs do not ascend")
            self.epochs.append((last, parse_policy(text[at + 1:at + 1 + count])))
            at += 1 + count
        need(1 <= len(self.epochs) <= 1024, "%d epochs" % len(self.epochs))
        self.origin = self.epochs[0][1].origin
        need(all(p.origin == self.origin for _, p in self.epochs), "several origins")

    def policy(self, size):
        """The policy for a tree size; None beyond the end of a closed bundle."""
        return next((p for last, p in self.epochs if last == 0 or last >= size), None)


# Receipts

Receipt = namedtuple("Receipt", "leaf index proof certificate")


def parse_receipt(data):
    need(len(data) <= MAX_PROOF, "tlog-proof of %d bytes" % len(data))
    text = lines(data)
    need(text[0] == "c2sp.org/tlog-proof@v1", "not a tlog-proof")
    need(len(text) > 3 and text[1].startswith("extra ") and text[2].startswith("index "), "extra and index lines")
    end = 3
    while end < len(text) and text[end]:
        end += 1
    need(end < len(text) and end - 3 <= 64, "no empty line after at most 64 hashes")
    certificate = parse_certificate("\n".join(text[end + 1:] + [""]).encode())
    receipt = Receipt(b64(text[1][6:]), decimal(text[2][6:]), [b64(h, 32) for h in text[3:end]], certificate)
    need(1 <= len(receipt.leaf) <= 65535, "extra data of %d bytes" % len(receipt.leaf))
    need(receipt.index < certificate.size, "index %d is not below the size %d" % (receipt.index, certificate.size))
    return receipt
