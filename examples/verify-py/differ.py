#!/usr/bin/python3
"""Shows damaged receipts and bundles to this verifier and to the Go one: every verdict, and every step's, must be the same.

usage: differ.py JUDGE [--all] [--seed N] [--count N]

JUDGE is the program of judge.go. --all flips every bit of the receipt and of the bundle; without it a seeded sample of
--count bits of each. Exchanged, missing and repeated items of a bundle, and cut and lengthened files, are always all tried.
Prints what was compared; exit code 1 and the differences when there are any.
"""
import argparse
import os
import random
import struct
import subprocess
import sys

import tlog
import verify
import wire

RECEIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "core", "testdata", "receipts")
ITEMS = ("endorsement_set", "registration", "approval", "config", "parameters")


def flipped(data, bit):
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def bits(name, data, chosen):
    for bit in chosen:
        yield "%s, bit %d" % (name, bit), flipped(data, bit)


def lengths(name, data, count, rng):
    for cut in sorted(rng.sample(range(len(data)), min(count, len(data)))):
        yield "%s, cut to %d bytes" % (name, cut), data[:cut]
    for end in (b"\n", b"\0", b"x", data):
        yield "%s and %d bytes" % (name, len(end)), data + end


def exchanged(bundle):
    """Bundles in canonical form with an item that is another's, gone, twice, or altered in one field."""
    def of(**changes):
        return wire.encode("Bundle", {**bundle, **changes})

    items = {name: bundle[name] for name in ITEMS}
    items.update(("node %d" % i, item) for i, item in enumerate(bundle["nodes"]))
    for name in ITEMS:
        yield "no " + name, of(**{name: None})
        for other, item in items.items():
            yield "%s is %s" % (name, other), of(**{name: item})
            yield "%s with the proof of %s" % (name, other), of(**{name: {**bundle[name], "proof": item["proof"]}})
        for index in (0, bundle[name]["index"] ^ 1, 2**63, 2**64 - 1):
            yield "%s at %d" % (name, index), of(**{name: {**bundle[name], "index": index}})
        for proof in ([], bundle[name]["proof"][1:], bundle[name]["proof"] + [bytes(32)], [b""] + bundle[name]["proof"]):
            yield "%s with %d hashes" % (name, len(proof)), of(**{name: {**bundle[name], "proof": proof}})
    nodes = bundle["nodes"]
    for name, changed in (("no nodes", []), ("nodes in another order", nodes[::-1]), ("a node less", nodes[1:]),
                          ("a node more", nodes + nodes[:1]), ("65 nodes", (nodes * 65)[:65]), ("one node twice", [nodes[0]] * 2)):
        yield name, of(nodes=changed)
    for name, item in items.items():
        yield name + " as a rollover", of(rollovers=[item])
    for field in ("raw_vector", "module"):
        yield "no " + field, of(**{field: b""})
        yield "another " + field, of(**{field: bundle[field] + b"\0"})
    yield "neither raw vector nor module", of(raw_vector=b"", module=b"")
    yield "version 2", of(version=2)
    yield "no receipt", of(receipt=b"")
    receipt = bundle["receipt"]
    for bit in range(0, 8 * len(receipt), 97):
        yield "bit %d of the receipt inside" % bit, of(receipt=flipped(receipt, bit))


def judge(pipe, data):
    pipe.stdin.write(struct.pack(">I", len(data)) + data)
    pipe.stdin.flush()
    return pipe.stdout.readline().decode().split()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("judge")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--count", type=int, default=400)
    given = parser.parse_args()
    print("seed %d" % given.seed)
    rng = random.Random(given.seed)
    trust_file = os.path.join(RECEIPTS, "trust.bundle")
    trust = tlog.TrustBundle(verify.read(trust_file))
    receipt, bundle = (verify.read(os.path.join(RECEIPTS, "measurement." + kind)) for kind in ("receipt", "bundle"))
    cases = []
    for name, data in (("receipt", receipt), ("bundle", bundle)):
        chosen = range(8 * len(data))
        cases += [(name, data)]
        cases += bits(name, data, chosen if given.all else sorted(rng.sample(chosen, given.count)))
        cases += lengths(name, data, len(data) if given.all else given.count // 4, rng)
    cases += exchanged(wire.decode("Bundle", bundle))
    found, count = 0, {}
    with subprocess.Popen([given.judge, trust_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipe:
        for name, data in cases:
            report = verify.Verifier(data, trust).run()
            here = [report["verdict"]] + [s["verdict"] for s in report["steps"]]
            there = judge(pipe, data)
            count[here[0]] = count.get(here[0], 0) + 1
            if here != there:
                found += 1
                print("%s: here %s (%s), there %s" % (name, here, report["conclusion"], there))
        pipe.stdin.close()
    print("%d inputs: %s; %d differences" % (len(cases), ", ".join("%d %s" % (n, v) for v, n in sorted(count.items())), found))
    return 1 if found or set(count) != set(verify.EXIT) else 0


if __name__ == "__main__":
    sys.exit(main())
