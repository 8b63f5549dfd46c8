#!/usr/bin/python3
"""Judges a file that shows a meter's consecutive samples, written from docs/formats.md ("Completeness") and nothing else.

usage: completeness.py FILE --trust TRUST

Exit codes: 0 complete, 1 refuted, 2 counters are missing, or nobody says who certifies.
"""
import argparse
import sys

import crypto
import tlog
import verify
import wire
from statements import MAX_RECORD, Statement, parse_measurement
from wire import Refused, need

LARGEST, SPAN = 67108864, 1024


def parse(data):
    need(len(data) <= LARGEST, "file of %d bytes" % len(data))
    c = wire.decode("Completeness", data)
    need(c["version"] == 1, "file of version %d" % c["version"])
    need(1 <= c["first_counter"] <= c["last_counter"] < c["first_counter"] + SPAN, "span of counters")
    need(len(c["measurements"]) <= SPAN and len(c["rollovers"]) <= 64, "too many items")
    need(c["registration"] is not None, "no registration")
    for item in [c["registration"]] + c["rollovers"] + c["measurements"]:
        need(1 <= len(item["record"]) <= MAX_RECORD, "record of %d bytes" % len(item["record"]))
        need(len(item["proof"]) <= 64 and all(len(h) == 32 for h in item["proof"]), "proof of an item")
    return c


def judge(data, trust):
    """The verdict, the counters that are missing, and the number of samples that hold."""
    try:
        missing, present, known = _judge(data, trust)
    except Refused as err:
        return verify.REFUTED, str(err), 0
    return verify.VERIFIED if known and not missing else verify.UNDECIDABLE, missing, present


def _judge(data, trust):
    c = parse(data)
    certificate = tlog.parse_certificate(c["certificate"])

    def opened(item):
        tlog.check_inclusion(tlog.leaf_hash(item["record"]), item["index"], certificate.size, item["proof"], certificate.root)
        return item["record"]

    registration = Statement(opened(c["registration"]), verify.STATEMENT % "meter-registration").body
    network, meter = registration["header"]["network_id"], registration["meter_id"]
    need(len(network) == 32 and certificate.origin[1:].endswith("/" + network.hex()[:16]), "the origin is of another network")
    need(c["first_counter"] >= registration["first_counter"], "the span begins before the meter's first counter")
    keys = [(registration["first_counter"], c["registration"]["index"], registration["key"])]
    for item in c["rollovers"]:
        r = Statement(opened(item), verify.STATEMENT % "meter-key-rollover").body
        need(r["meter_id"] == meter and item["index"] > keys[-1][1] and r["first_counter"] > keys[-1][0], "rollovers do not fit")
        keys.append((r["first_counter"], item["index"], r["key"]))
    for _, _, key in keys:
        crypto.check_key(key, crypto.ED25519, crypto.ZIP215, crypto.P256)

    following, before, shown = c["first_counter"], b"", set()
    for item in c["measurements"]:
        m, h, claim = parse_measurement(opened(item))
        counter = h["counter"]
        need(h["network_id"] == network and h["meter_id"] == meter, "a sample of meter %s" % h["meter_id"])
        need(following <= counter <= c["last_counter"], "counter %d does not ascend within the span" % counter)
        key = [key for first, _, key in keys if first <= counter][-1]
        need(crypto.verify(key, crypto.pae(crypto.SAMPLE_HEADER, m["header"]), m["signature"]), "counter %d: signature" % counter)
        need(counter != keys[0][0] or not h["previous"], "the meter's first sample names one before it")
        need(counter != following or not before or h["previous"] == before, "counter %d does not follow the one before" % counter)
        following, before = counter + 1, claim["sample"]
        shown.add(counter)

    policy = None
    if trust is not None:
        need(certificate.origin == trust.origin, "the trust bundle is about %s" % trust.origin)
        policy = trust.policy(certificate.size)
        if policy is not None:
            tlog.check_certificate(policy, certificate)
    missing = [n for n in range(c["first_counter"], c["last_counter"] + 1) if n not in shown]
    return missing, len(shown), policy is not None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("file")
    arguments.add_argument("--trust", required=True)
    given = arguments.parse_args()
    verdict, what, present = judge(verify.read(given.file), tlog.TrustBundle(verify.read(given.trust)))
    print("%s: %d samples%s" % (verdict, present, ", " + str(what) if what else ""))
    return verify.EXIT[verdict]


if __name__ == "__main__":
    sys.exit(main())
