#!/usr/bin/python3
"""The signing half of a meter's firmware, from docs/formats.md ("Samples", "Raw vectors", "What a meter must do").

usage: meter.py CHALLENGE > ANSWER

CHALLENGE is what `lacre meter conformance --challenge` writes: a meter, its key's seed, and captures, in the form of
core/testdata/meter.json. ANSWER is the same with what a meter makes of them; `lacre meter conformance ANSWER --vectors`
judges it.
"""
import json
import os
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import crypto
import raw
import statements
import tlog
import wire


class Outbox:
    """What a meter must not lose: its samples until each one's receipt has verified, and the chain's end."""

    def __init__(self, folder, first_counter):
        self.folder, self.state = folder, os.path.join(folder, "chain")
        if os.path.exists(self.state):
            with open(self.state) as file:
                saved = json.load(file)
            self.counter, self.previous = saved["counter"], bytes.fromhex(saved["previous"])
        else:
            self.counter, self.previous = first_counter, b""

    def keep(self, counter, digest, sample):
        """Makes sample, counter and digest durable, in this order: a sample whose counter is not yet counted is made anew
        after a power cut, and was never sent (F4)."""
        self._write(os.path.join(self.folder, "%020d.json" % counter), sample)
        self._write(self.state, {"counter": counter + 1, "previous": digest.hex()})
        self.counter, self.previous = counter + 1, digest

    def _write(self, path, value):
        with open(path + ".new", "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Memory(Outbox):
    """No outbox: for examples only."""

    def __init__(self, first_counter):
        self.counter, self.previous = first_counter, b""

    def _write(self, path, value):
        pass

    folder = state = ""


class Meter:
    """A meter with an Ed25519 key. A secure element signs with P-256 instead: 64 bytes r || s, s at most half the order."""

    def __init__(self, network_id, meter_id, channels, rate_millihertz, seed, outbox):
        self.network_id, self.meter_id, self.channels, self.rate = network_id, meter_id, channels, rate_millihertz
        self.key, self.outbox = ed25519.Ed25519PrivateKey.from_private_bytes(seed), outbox

    def sample(self, values, captured_at_unix_nano, clock_sync, known_height, known_block, encoding, evidence=(), status_flags=0):
        """Signs one capture, and keeps it before it gives it out."""
        assert len(values) == self.channels
        vector = raw.encode(values, encoding)
        header = wire.encode("SampleHeader", {
            "network_id": self.network_id, "meter_id": self.meter_id,
            "counter": self.outbox.counter, "previous": self.outbox.previous,
            "captured_at_unix_nano": captured_at_unix_nano, "clock_sync": clock_sync,
            "known_height": known_height, "known_block": known_block,
            "channels": len(values), "samples_per_channel": len(values[0]), "sample_rate_millihertz": self.rate,
            "encoding": encoding, "raw_digest": crypto.digest("rawvector", vector),
            "evidence": evidence, "status_flags": status_flags,
        })
        signed = crypto.pae(crypto.SAMPLE_HEADER, header)
        sample = {"header": header.hex(), "signature": self.key.sign(signed).hex(), "raw_vector": vector.hex()}
        self.outbox.keep(self.outbox.counter, crypto.digest("sample", signed), sample)
        return sample

    def public_key(self):
        """The tagged key that the notified body registers."""
        raw_form = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return bytes([crypto.ZIP215]) + self.key.public_key().public_bytes(*raw_form)


def known_block(proof, trust):
    """Height and header digest of the block that a gateway's GetHead proves, and when it was certified (seconds): the next
    sample may name it if it is captured no earlier."""
    p = tlog.parse_receipt(proof)
    c = p.certificate
    tlog.check_inclusion(tlog.leaf_hash(p.leaf), p.index, c.size, p.proof, c.root)
    policy = trust.policy(c.size)
    wire.need(policy is not None, "the trust bundle ends before size %d" % c.size)
    tlog.check_certificate(policy, c)
    wire.need(p.index == c.size - 1, "record %d of %d is not the last" % (p.index, c.size))
    header = statements.parse_record(p.leaf, "block_header")
    return header["height"], crypto.digest("blockheader", p.leaf), tlog.median_time(c)


def answer(challenge):
    """A challenge with the samples that a new meter makes of it, in order."""
    meter = Meter(bytes.fromhex(challenge["network_id"]), challenge["meter_id"], challenge["channels"],
                  challenge["sample_rate_millihertz"], bytes.fromhex(challenge["seed"]), Memory(challenge["first_counter"]))
    samples = [{**s, **meter.sample(json.loads(s["values"]), s["captured_at_unix_nano"], s["clock_sync"], s["known_height"],
                                    bytes.fromhex(s["known_block"]), s["encoding"], [dict(e, digest=bytes.fromhex(e["digest"])) for e in s["evidence"]],
                                    s["status_flags"])} for s in challenge["samples"]]
    return {**challenge, "public_key": meter.public_key().hex(), "samples": samples}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as given:
        json.dump(answer(json.load(given)), sys.stdout, indent=2)
    print()
