#!/usr/bin/python3
"""Verifies a Lacre receipt or bundle offline, written from docs/formats.md ("Receipts", "Bundles") and nothing else.

usage: verify.py RECEIPT|BUNDLE --trust TRUST [--pin HEX] [--json]

Exit codes: 0 verified, 1 refuted (or another trust bundle than the pinned one), 2 undecidable, 3 a file could not be read,
64 wrong usage.
It runs no module: re-execution (step 12) stops at the claim's input digest, and is then undecidable.
"""
import argparse
import json
import re
import sys

import crypto
import raw
import table
import tlog
import wire
from statements import APPROVAL, MAX_RECORD, Statement, nanoseconds, parse_endorsement_set, parse_measurement, parse_record, satisfied
from wire import Refused, need

VERIFIED, REFUTED, UNDECIDABLE = "verified", "refuted", "undecidable"
EXIT = {VERIFIED: 0, REFUTED: 1, UNDECIDABLE: 2}
STEPS = ["canonical form", "inclusion", "certificate", "record form", "configuration", "registration", "meter signature",
         "approval", "endorsements", "raw vector", "module", "re-execution", "national table", "meter history"]
RECEIPT_STEPS = ["canonical form", "inclusion", "certificate", "record form", "meter signature"]
REPORTED = RECEIPT_STEPS + [s for s in STEPS if s not in RECEIPT_STEPS]
OPTIONAL = {"raw vector", "module", "re-execution", "national table"}
STATEMENT = "application/vnd.lacre.%s.v1+protobuf"


class Missing(Exception):
    """What a step needs is not there: neither verified nor refuted."""


def notified_bodies(config, name=None):
    return [(b["keys"], b["threshold"]) for b in config["notified_bodies"] if name in (None, b["id"])]


def parse_bundle(data):
    need(len(data) <= 10485760, "bundle of %d bytes" % len(data))
    b = wire.decode("Bundle", data)
    need(b["version"] == 1, "bundle of version %d" % b["version"])
    need(1 <= len(b["receipt"]) <= tlog.MAX_PROOF, "receipt of %d bytes" % len(b["receipt"]))
    need(len(b["nodes"]) <= 64 and len(b["rollovers"]) <= 64 and len(b["history"]) <= 1024, "too many nodes or statements")
    need(len(b["raw_vector"]) <= raw.MAX_BYTES and len(b["module"]) <= 65536, "raw vector or module too long")
    names = ("endorsement_set", "registration", "approval", "config", "parameters", "national_table")
    single = [b[name] for name in names if b[name] is not None]
    for item in single + b["nodes"] + b["rollovers"] + b["history"]:
        need(1 <= len(item["record"]) <= MAX_RECORD, "record of %d bytes" % len(item["record"]))
        need(len(item["proof"]) <= 64 and all(len(h) == 32 for h in item["proof"]), "proof of an item")
    return b


class Verifier:
    """Runs the steps over one file. Each step is a method; what it learns it leaves in an attribute, which is None until
    then and makes the steps that need it undecidable."""

    def __init__(self, data, trust=None):
        self.data, self.trust = data, trust
        self.kind = "receipt" if data.startswith(b"c2sp.org/") else "bundle"
        self.receipt = self.bundle = self.measurement = self.header = self.claim = None
        self.config = self.meter = self.parameters = self.approved = self.vector = None

    def run(self):
        done = {}
        for name in RECEIPT_STEPS if self.kind == "receipt" else STEPS:
            try:
                verdict, detail = VERIFIED, getattr(self, name.replace(" ", "_").replace("-", "_"))()
            except Refused as err:
                verdict, detail = REFUTED, str(err)
            except Missing as err:
                verdict, detail = UNDECIDABLE, str(err)
            done[name] = {"name": name, "verdict": verdict, "detail": detail}
            if name in OPTIONAL or (self.kind == "receipt" and name == "meter signature"):
                done[name]["optional"] = True
        steps = [done[name] for name in REPORTED if name in done]
        refuted = [s for s in steps if s["verdict"] == REFUTED]
        open_steps = [s for s in steps if s["verdict"] == UNDECIDABLE and "optional" not in s]
        verdict = REFUTED if refuted else UNDECIDABLE if open_steps else VERIFIED
        blamed = (refuted + open_steps)[:1]
        conclusion = ("%s: %s" % (blamed[0]["name"], blamed[0]["detail"]) if blamed else
                      "certified, not re-executed" if self.kind == "receipt" else "certified and endorsed, not re-executed")
        return {"kind": self.kind, "verdict": verdict, "conclusion": conclusion, "steps": steps}

    def have(self, *names):
        for name in names:
            if getattr(self, name) is None:
                raise Missing("%s could not be judged" % name)

    # Steps 1 to 4

    def canonical_form(self):
        if self.kind == "bundle":
            bundle = parse_bundle(self.data)
            self.receipt, self.bundle = tlog.parse_receipt(bundle["receipt"]), bundle
        else:
            self.receipt = tlog.parse_receipt(self.data)
        return "%d bytes" % len(self.data)

    def inclusion(self):
        self.have("receipt")
        r = self.receipt
        tlog.check_inclusion(tlog.leaf_hash(r.leaf), r.index, r.certificate.size, r.proof, r.certificate.root)
        return "record %d of %d" % (r.index, r.certificate.size)

    def certificate(self):
        self.have("receipt")
        if self.trust is None:
            raise Missing("no trust bundle")
        c = self.receipt.certificate
        need(c.origin == self.trust.origin, "certificate of %s, the trust bundle is about %s" % (c.origin, self.trust.origin))
        policy = self.trust.policy(c.size)
        if policy is None:
            raise Missing("the trust bundle ends before size %d" % c.size)
        tlog.check_certificate(policy, c)
        return "cosigned by " + ", ".join(s.name for s in c.cosignatures)

    def record_form(self):
        self.have("receipt")
        m, h, c = parse_measurement(self.receipt.leaf)
        need(self.receipt.certificate.origin[1:].endswith("/" + h["network_id"].hex()[:16]), "the origin is of another network")
        self.measurement, self.header, self.claim = m, h, c
        return "sample %s, meter %s, counter %d, code %d" % (c["sample"].hex(), h["meter_id"], h["counter"], c["code"])

    # Items of a bundle

    def proven(self, item, name):
        """The leaf of an item, proven in the receipt's tree."""
        if item is None:
            raise Missing("the bundle has no %s" % name)
        certificate = self.receipt.certificate
        tlog.check_inclusion(tlog.leaf_hash(item["record"]), item["index"], certificate.size, item["proof"], certificate.root)
        return item["record"]

    def statement(self, item, payload_type, want=None):
        s = Statement(self.proven(item, payload_type), payload_type)
        need(want is None or s.digest == want, "statement %s, want %s" % (s.digest.hex(), want and want.hex()))
        return s

    def signed(self, statement, keys, who):
        """Enough keys of one of the configuration's sets signed the statement. A configuration that is not the first may have
        lost a key: then the certificate alone says that the statement was accepted."""
        if self.config is None:
            raise Missing("the configuration, which has the keys, is not verified")
        if not any(sum(statement.signed_by(key) for key in some) >= enough for some, enough in keys(self.config)):
            need(self.config["header"]["sequence"] > 1, "no signature by " + who)

    # Steps 5 to 12

    def configuration(self):
        self.have("bundle", "measurement")
        s = self.statement(self.bundle["config"], STATEMENT % "network-config", self.measurement["config"])
        network, sequence = self.header["network_id"], (s.body["header"] or {"sequence": 0})["sequence"]
        if sequence == 1:
            need(s.digest == network, "another genesis configuration")
        else:
            s.check_place(network, "network")
        need(s.body["name"] + "/" + network.hex()[:16] == self.receipt.certificate.origin, "the log's origin is not this network's")
        self.config = s.body
        return "configuration %d of %s" % (sequence, s.body["name"])

    def registration(self):
        self.have("bundle", "measurement")
        s, h, later = self.statement(self.bundle["registration"], STATEMENT % "meter-registration"), self.header, self.bundle["parameters"]
        r = p = s.body
        s.check_place(h["network_id"], "meter/" + h["meter_id"])
        if later is None:
            need(s.digest == self.claim["registration"], "the claim names another statement")
        else:
            named = self.statement(later, STATEMENT % "meter-parameters", self.claim["registration"])
            named.check_place(h["network_id"], "meter/" + h["meter_id"])
            p = named.body
            need(p["effective_at_unix_nano"] <= h["captured_at_unix_nano"], "the parameters are effective after the capture")
            self.signed(named, notified_bodies, "a notified body")
            need(p["meter_id"] == r["meter_id"], "parameters of another meter")
        need(r["meter_id"] == h["meter_id"], "registration of another meter")
        need(p["algorithm"] == self.claim["algorithm"], "the meter is under another module")
        need(r["channels"] == h["channels"] and p["sample_rate_millihertz"] == h["sample_rate_millihertz"], "channels or rate differ")
        self.signed(s, notified_bodies, "a notified body")
        self.meter, self.parameters = r, p
        return "meter %s" % r["meter_id"]

    def meter_signature(self):
        if self.kind == "receipt":
            raise Missing("the meter's registration is not in a receipt; a bundle has it")
        self.have("meter")
        h, keys = self.header, [(self.meter["first_counter"], self.bundle["registration"]["index"], self.meter["key"])]
        for item in self.bundle["rollovers"]:
            s, (counter, index, old) = self.statement(item, STATEMENT % "meter-key-rollover"), keys[-1]
            s.check_place(h["network_id"], "meter/" + h["meter_id"])
            need(item["index"] > index and s.body["first_counter"] > counter, "rollovers do not ascend")
            self.signed(s, notified_bodies, "a notified body")
            need(s.signed_by(bytes([crypto.ED25519]) + old[1:] if old[:1] == b"\2" else old), "no signature by the old key")
            keys.append((s.body["first_counter"], item["index"], s.body["key"]))
        for _, _, key in keys:
            crypto.check_key(key, crypto.ED25519, crypto.ZIP215, crypto.P256)
        in_force = [key for counter, _, key in keys if counter <= h["counter"]]
        need(in_force, "counter %d is below the meter's first" % h["counter"])
        signed = crypto.pae(crypto.SAMPLE_HEADER, self.measurement["header"])
        need(crypto.verify(in_force[-1], signed, self.measurement["signature"]), "the meter's signature does not verify")
        return "signed by key %s.." % crypto.key_id(in_force[-1])[:8]

    def approval(self):
        self.have("bundle", "measurement")
        s, h, c = self.statement(self.bundle["approval"], APPROVAL, self.measurement["approval"]), self.header, self.claim
        a = s.body
        need(a["statement"]["network"] == h["network_id"].hex() and a["algorithm"] == c["algorithm"], "approval of another module")
        need(a["fuelLimit"] == c["fuel_limit"] and a["profileVersion"] == c["profile_version"], "fuel limit or profile differs")
        validity = a["validity"]
        need(nanoseconds(validity["notBefore"]) <= h["captured_at_unix_nano"] < nanoseconds(validity["notAfter"]), "capture not covered")
        need(c["code"] in [0, 100] + [r["code"] for r in a["schema"]["refusals"]], "code %d is not in the schema" % c["code"])
        whole = len(a["schema"]["values"])
        need(len(c["values"]) == whole or (c["code"] != 0 and not c["values"]), "%d values, want %d" % (len(c["values"]), whole))
        self.signed(s, lambda config: notified_bodies(config, a["notifiedBody"]), a["notifiedBody"])
        need(s.signed_by(tlog.b64(a["manufacturer"]["publicKey"])), "no signature by the manufacturer")
        self.approved = a
        return "%s %s" % (a["module"]["name"], a["module"]["version"])

    def endorsements(self):
        self.have("bundle", "measurement")
        m, c, item, nodes = self.measurement, self.claim, self.bundle["endorsement_set"], self.bundle["nodes"]
        record = self.proven(item, "endorsement set")
        need(crypto.digest("record", record) == m["endorsement_set"], "another endorsement set")
        need(item["index"] < self.receipt.index, "the endorsement set does not precede the measurement")
        e = parse_endorsement_set(record)
        need(e["network_id"] == c["network_id"] and e["algorithm"] == c["algorithm"], "endorsements of another module")
        need(m["claim_index"] < len(e["claims"]), "claim %d of %d" % (m["claim_index"], len(e["claims"])))
        need(e["claims"][m["claim_index"]] == tlog.leaf_hash(m["claim"]), "the claim is not the endorsed one")
        self.have("approved", "config")
        if not nodes:
            raise Missing("the bundle has no registrations of the endorsers")
        need(len(nodes) == len(e["endorsements"]), "%d nodes for %d endorsements" % (len(nodes), len(e["endorsements"])))
        message = crypto.pae(crypto.ENDORSEMENT, e["network_id"] + e["algorithm"] + crypto.u64be(len(e["claims"])) +
                             tlog.tree_hash(e["claims"]))
        endorsed = set()
        for node, one in zip(nodes, e["endorsements"]):
            s = self.statement(node, STATEMENT % "node-registration")
            n = s.body
            s.check_place(c["network_id"], "node/" + one["node_id"])
            need(n["node_id"] == one["node_id"] and n["role"] == 2, "not the registration of endorser %s" % one["node_id"])
            need(node["index"] < item["index"], "node %s was registered after it endorsed" % n["node_id"])
            self.signed(s, lambda config: [([o["root_key"]], 1) for o in config["organisations"] if o["id"] == n["organisation"]],
                        "the root key of " + n["organisation"])
            need(crypto.verify(n["key"], message, one["signature"]), "endorsement of %s does not verify" % n["node_id"])
            endorsed.add(n["organisation"])
        need(satisfied(self.approved["policy"], endorsed), "the endorsers do not satisfy the approval's policy")
        return "claim %d of %d, by %s" % (m["claim_index"], len(e["claims"]), ", ".join(sorted(endorsed)))

    def raw_vector(self):
        self.have("bundle", "header")
        if not self.bundle["raw_vector"]:
            raise Missing("the bundle has no raw vector")
        need(crypto.digest("rawvector", self.bundle["raw_vector"]) == self.header["raw_digest"], "another raw vector")
        self.vector = self.bundle["raw_vector"]
        return "%d bytes" % len(self.vector)

    def module(self):
        self.have("bundle", "claim")
        if not self.bundle["module"]:
            raise Missing("the bundle has no module")
        need(crypto.sha256(self.bundle["module"]) == self.claim["algorithm"], "another module")
        return "%d bytes" % len(self.bundle["module"])

    def re_execution(self):
        self.have("bundle", "claim", "meter", "vector")
        if self.claim["profile_version"] != 1:
            raise Missing("the claim is of sandbox profile %d" % self.claim["profile_version"])
        h = self.header
        values = raw.decode(self.vector, h["encoding"], h["channels"], h["samples_per_channel"])
        given = raw.module_input(h["sample_rate_millihertz"], self.parameters["parameters"], values)
        need(crypto.digest("claiminput", given) == self.claim["input"], "the claim's input is not made of registration and raw vector")
        raise Missing("the claim's input is as registration and raw vector give it; this verifier runs no module")

    def national_table(self):
        self.have("bundle", "meter")
        name, item, h = self.parameters["national_table"], self.bundle["national_table"], self.header
        if not name and item is None:
            return "the meter is under no national table"
        need(name, "the bundle has a national table, and the meter is under none")
        s = self.statement(item, STATEMENT % "national-table")
        t = s.body
        s.check_place(h["network_id"], "table/" + name)
        need(t["table_id"] == name and item["index"] < self.receipt.index, "another table, or recorded after the measurement")
        need(t["valid_from_unix_nano"] <= h["captured_at_unix_nano"], "version %d is valid after the capture" % t["version"])
        table.check(t["bands"], t["rounding"], t["step"])
        self.signed(s, notified_bodies, "a notified body")
        return "version %d of table %s" % (t["version"], name)

    def meter_history(self):
        self.have("bundle", "meter")
        b, h = self.bundle, self.header
        single, kinds = [b["registration"]] + b["rollovers"], {STATEMENT % name for name in ("meter-parameters", "meter-status")}
        statements = [(r, STATEMENT % name) for r, name in zip(single, ["meter-registration"] + ["meter-key-rollover"] * len(single))]
        for item in b["history"]:
            kind = parse_record(self.proven(item, "history"), "statement")["payload_type"]
            need(kind in kinds, "a statement of type %s in the history" % kind)
            statements.append((item, kind))
        if b["parameters"] is not None:
            statements.append((b["parameters"], STATEMENT % "meter-parameters"))
        statements = [(item["index"], kind, self.statement(item, kind)) for item, kind in statements]
        for _, _, s in statements:
            s.check_place(h["network_id"], "meter/" + h["meter_id"])
        places = [item["index"] for item in b["history"]]
        need(all(x < y for x, y in zip(places, places[1:])), "the history does not ascend")
        statements.sort(key=lambda s: s[0])
        need(statements[0][0] < self.receipt.index, "the first statement on the meter follows the measurement")
        before = in_force = None
        for number, (_, kind, s) in enumerate(statements, 1):
            place = s.body["header"]
            if place["sequence"] > number:
                raise Missing("the bundle has no statement %d on the meter" % number)
            need(place["sequence"] == number, "statement %d stands as number %d" % (place["sequence"], number))
            need(place["predecessor"] == (before.digest if before else b""), "statement %d follows another" % number)
            if before:
                self.signed(s, notified_bodies, "a notified body")
            if not before or (kind == STATEMENT % "meter-parameters" and s.body["effective_at_unix_nano"] <= h["captured_at_unix_nano"]):
                in_force = s.digest
            before = s
        need(in_force == self.claim["registration"], "other parameters were in force at the capture")
        return "%d statements" % len(statements)


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Arguments(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        print("verify.py: " + message, file=sys.stderr)
        sys.exit(64)


def main(arguments):
    parser = Arguments(prog="verify.py", description="Verifies a Lacre receipt or bundle, offline.")
    parser.add_argument("file", metavar="RECEIPT|BUNDLE")
    parser.add_argument("--trust", metavar="TRUST", help="file of the trust bundle; without it the certificate is undecidable")
    parser.add_argument("--pin", metavar="HEX", help="digest that the trust bundle must have")
    parser.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    given = parser.parse_args(arguments)
    if given.pin and not (given.trust and re.fullmatch("[0-9a-f]{64}", given.pin)):
        parser.error("--pin wants 64 hexadecimal digits, and --trust")
    try:
        data = read(given.file)
        trust = tlog.TrustBundle(read(given.trust)) if given.trust else None
    except (OSError, Refused) as err:
        print("verify.py: %s" % err, file=sys.stderr)
        return 3
    if given.pin and given.pin != trust.digest.hex():
        print("verify.py: the trust bundle has digest %s, the pin is %s" % (trust.digest.hex(), given.pin), file=sys.stderr)
        return EXIT[REFUTED]
    report = Verifier(data, trust).run()
    if given.json:
        print(json.dumps({"file": given.file, **report}, indent=2, ensure_ascii=False))
    else:
        for step in report["steps"]:
            print("%-12s %-16s %s" % (step["verdict"], step["name"], step["detail"]))
        print("%s: %s" % (report["verdict"], report["conclusion"]))
    return EXIT[report["verdict"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
