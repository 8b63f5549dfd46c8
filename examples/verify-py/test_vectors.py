#!/usr/bin/python3
"""Runs every vector of core/testdata through this verifier: python3 test_vectors.py

test_every_file_is_used fails when a file of core/testdata is read by no test.
"""
import base64
import json
import os
import tempfile
import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import completeness
import crypto
import evidence
import meter
import raw
import statements
import table
import tlog
import verify
import wire
from wire import Refused

TESTDATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "core", "testdata")


def read(name):
    return verify.read(os.path.join(TESTDATA, *name.split("/")))


def load(name):
    return json.loads(read(name))


def unhex(texts):
    return [bytes.fromhex(t) for t in texts]


class Vectors(unittest.TestCase):
    def test_digest(self):
        for v in load("digest.json"):
            self.assertEqual(crypto.digest(v["kind"], b"").hex(), v["of_nothing"], v["kind"])
            self.assertEqual(crypto.digest(v["kind"], b"abc").hex(), v["of_abc"], v["kind"])
            self.assertEqual(crypto.digest_fields(v["kind"], [b"a", b"bc"]).hex(), v["of_fields_a_bc"], v["kind"])

    def test_signature(self):
        kinds = {"ed25519": crypto.ED25519, "ed25519-zip215": crypto.ZIP215, "p256": crypto.P256}
        for v in load("signature.json"):
            key, signature = bytes.fromhex(v["tagged_key_hex"]), bytes.fromhex(v["signature_hex"])
            self.assertEqual(key[0], kinds[v["kind"]])
            self.assertEqual(crypto.key_id(key), v["key_id"])
            self.assertEqual(crypto.verify(key, v["message"].encode(), signature), v["valid"], (v["kind"], v["note"]))

    def test_considered(self):
        for v in load("considered.json"):
            bands = [{name: band.get(name, 0) for name in ("up_to", "absolute", "relative_ppm")} for band in v["bands"]]
            rounding = {"ROUNDING_DOWN": table.DOWN, "ROUNDING_HALF_UP": table.HALF_UP, "ROUNDING_UP": table.UP}[v["rounding"]]
            got = table.considered(bands, rounding, v["step"], v["measured"])
            self.assertEqual(got, (v["errorMillionths"], v["considered"]), v)

    def test_completeness(self):
        v = load("completeness.json")
        trust = tlog.TrustBundle(v["trust"].encode())
        for one in v["files"]:
            file, want = base64.b64decode(one["file"]), one["result"]
            missing = [n for r in want["missing"] for n in range(r["first"], r["last"] + 1)]
            self.assertEqual(completeness.judge(file, trust), (want["verdict"], missing, want["present"]), one["name"])
            self.assertEqual(completeness.judge(file, None)[0], "undecidable")
            for at in range(0, len(file), 61):
                damaged = file[:at] + bytes([file[at] ^ 1]) + file[at + 1:]
                self.assertNotEqual(completeness.judge(damaged, trust)[0], "verified", "byte %d of %s" % (at, one["name"]))

    def test_envelope(self):
        v, file = load("envelope.json"), read("envelope.dsse.json")
        payload_type, payload, signatures = statements.parse_dsse(file)
        pae = crypto.pae(payload_type, payload)
        self.assertEqual(pae.decode(), v["pae"])
        self.assertEqual(crypto.digest("statement", pae).hex(), v["identity"])
        keys = {crypto.key_id(k): k for k in unhex(v["signer_keys"])}
        self.assertEqual(sorted(keys), v["signer_key_ids"])
        self.assertEqual([i for i, _ in signatures], v["signer_key_ids"])
        for i, signature in signatures:
            self.assertTrue(crypto.verify(keys[i], pae, signature))

    def test_sample(self):
        v = {k: base64.b64decode(x) for k, x in load("sample.json").items() if k in ("header", "seed", "signature", "signed")}
        plain = load("sample.json")
        h = statements.parse_header(v["header"])
        self.assertEqual(wire.encode("SampleHeader", h), v["header"])
        self.assertEqual(crypto.pae(crypto.SAMPLE_HEADER, v["header"]), v["signed"])
        self.assertEqual(crypto.digest("sample", v["signed"]).hex(), plain["digest"])
        self.assertEqual(crypto.digest("rawvector", b"raw").hex(), plain["rawDigestOfRaw"])
        key = ed25519.Ed25519PrivateKey.from_private_bytes(v["seed"])
        self.assertEqual(key.sign(v["signed"]), v["signature"])
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.assertTrue(crypto.verify(bytes([crypto.ZIP215]) + public, v["signed"], v["signature"]))

    def test_evidence(self):
        for v in load("evidence.json"):
            sealed, private = base64.b64decode(v["sealed"]), base64.b64decode(v["privateKey"])
            context = bytes.fromhex(v["networkId"]), v["meterId"], v["mediaType"]
            self.assertEqual(crypto.digest("evidence", sealed).hex(), v["digest"])
            self.assertEqual(len(sealed), v["size"])
            self.assertEqual(evidence.open_sealed(sealed, private, *context), base64.b64decode(v["content"]))
            with self.assertRaises(Refused):
                evidence.open_sealed(sealed[:-1], private, *context)
            with self.assertRaises(Refused):
                evidence.open_sealed(sealed, private, context[0], "another-meter", context[2])

    def test_heartbeat(self):
        v = {name: base64.b64decode(text) for name, text in load("heartbeat.json").items()}
        body = statements.parse_record(v["record"], "heartbeat")
        self.assertEqual(body["heartbeat"], v["heartbeat"])
        h = wire.decode("Heartbeat", v["heartbeat"])
        self.assertEqual((h["meter_id"], h["newest_counter"], h["status_flags"]), ("meter-1", 41, 5))
        self.assertEqual(crypto.pae("application/vnd.lacre.heartbeat.v1+protobuf", v["heartbeat"]), v["signed"])
        self.assertTrue(crypto.verify(v["publicKey"], v["signed"], body["signature"]))
        self.assertFalse(crypto.verify(v["publicKey"], crypto.pae(crypto.SAMPLE_HEADER, v["heartbeat"]), body["signature"]))

    def test_configurations(self):
        v = load("configurations.json")
        pinned, extended = tlog.TrustBundle(v["pinned"].encode()), tlog.TrustBundle(v["extended"].encode())
        list_ = wire.decode("ConfigurationHistory", base64.b64decode(v["configurations"]))["configurations"]
        self.assertEqual(len(list_), len(extended.epochs))
        before = b""
        for n, item in enumerate(list_):
            leaf = item["configuration"]
            envelope = statements.parse_record(leaf["record"], "statement")
            config = wire.decode("NetworkConfig", envelope["payload"])
            self.assertEqual((config["header"]["sequence"], config["header"]["predecessor"]), (n + 1, before))
            before = crypto.digest("statement", crypto.pae(envelope["payload_type"], envelope["payload"]))
            certificate = tlog.parse_certificate(item["certificate"])
            tlog.check_inclusion(tlog.leaf_hash(leaf["record"]), leaf["index"], certificate.size, leaf["proof"], certificate.root)
            tlog.check_certificate((extended if n else pinned).policy(certificate.size), certificate)
            if n:  # its own block, the last that the configuration before certifies
                self.assertEqual(certificate.size, leaf["index"] + 2)
                self.assertEqual(extended.epochs[n - 1][0], certificate.size)
            with self.assertRaises(Refused):
                tlog.check_inclusion(tlog.leaf_hash(leaf["record"] + b"x"), leaf["index"], certificate.size, leaf["proof"], certificate.root)

    def test_expiry(self):
        v = load("expiry.json")
        proof = wire.decode("ProvenExpiry", base64.b64decode(v["proof"]))
        leaf, certificate = proof["decision"], tlog.parse_certificate(proof["certificate"])
        tlog.check_inclusion(tlog.leaf_hash(leaf["record"]), leaf["index"], certificate.size, leaf["proof"], certificate.root)
        envelope = statements.parse_record(leaf["record"], "statement")
        self.assertEqual(envelope["payload_type"], "application/vnd.lacre.raw-vector-expiry.v1+protobuf")
        self.assertEqual(envelope["payload"], base64.b64decode(v["decision"]))
        signed = crypto.pae(envelope["payload_type"], envelope["payload"])
        self.assertEqual(crypto.digest("statement", signed).hex(), v["digest"])
        decision = wire.decode("RawVectorExpiry", envelope["payload"])
        self.assertEqual((decision["below_height"], len(decision["last_block"])), (1, 32))
        configs = [statements.parse_record(item["configuration"]["record"], "statement") for item in proof["configurations"]["configurations"]]
        newest = wire.decode("NetworkConfig", configs[-1]["payload"])
        self.assertGreater(newest["limits"]["raw_vector_retention_nano"], 0)
        roots = [one["root_key"] for one in newest["organisations"]]
        by = [key for key in roots for s in envelope["signatures"] if crypto.verify(key, signed, s["signature"])]
        self.assertGreater(2 * len(by), len(roots))

    def test_recovery(self):
        v = {name: base64.b64decode(text) for name, text in load("recovery.json").items() if name != "header"}
        lock = wire.decode("RecoveryLock", v["lock"])
        self.assertEqual(crypto.pae("application/vnd.lacre.recovery-lock.v1+protobuf", v["lock"]), v["signed"])
        self.assertTrue(crypto.verify(v["publicKey"], v["signed"], v["signature"]))
        envelope = statements.parse_record(v["record"], "statement")
        recovery = wire.decode("NetworkConfig", envelope["payload"])["recovery"]
        self.assertEqual([one["payload"] for one in recovery["locks"]], [v["lock"]])
        head = {name: recovery[name] for name in ("height", "header", "size", "root")}
        self.assertEqual(lock["head"], head)

    def test_claim(self):
        v = load("claim.json")
        claim = base64.b64decode(v["claim"])
        c = statements.parse_claim(claim)
        leaf = tlog.leaf_hash(claim)
        self.assertEqual(leaf.hex(), v["hash"])
        self.assertEqual(crypto.digest("claiminput", b"input").hex(), v["inputDigest"])
        message = crypto.pae(crypto.ENDORSEMENT, c["network_id"] + c["algorithm"] + crypto.u64be(2) + tlog.tree_hash([leaf, leaf]))
        self.assertEqual(message, base64.b64decode(v["endorsementOfItTwice"]))

    def test_tree(self):
        v = load("tlog.json")
        hashes = [tlog.leaf_hash(r.encode()) for r in v["records"]]
        self.assertEqual([h.hex() for h in hashes], v["leaf_hashes"])
        self.assertEqual([tlog.tree_hash(hashes[:n]).hex() for n in range(1, 8)], v["roots_of_1_to_7"])
        self.assertEqual(tlog.tree_hash([]).hex(), v["empty_root"])
        self.assertEqual(crypto.digest("statement", v["genesis"].encode()).hex(), v["genesis_digest"])
        self.assertEqual(v["origin"], "ledger.example/" + v["genesis_digest"][:16])
        consistency = unhex(v["consistency_of_3_in_7"])  # RFC 6962, section 2.1.2, worked out for this one
        left = tlog.node_hash(tlog.node_hash(hashes[0], hashes[1]), tlog.node_hash(hashes[2], hashes[3]))
        self.assertEqual(consistency, [hashes[2], hashes[3], tlog.node_hash(hashes[0], hashes[1]), tlog.tree_hash(hashes[4:])])
        self.assertEqual(tlog.node_hash(left, consistency[3]).hex(), v["roots_of_1_to_7"][6])
        peaks = [left, tlog.node_hash(hashes[4], hashes[5]), hashes[6]]
        self.assertEqual(v["compact_range_of_7"], (crypto.u64be(7) + b"".join(peaks)).hex())

    def test_certificate(self):
        v, certificate = load("tlog.json"), tlog.parse_certificate(read("tlog.certificate"))
        self.assertEqual((certificate.origin, certificate.size, certificate.root.hex()), (v["origin"], 7, v["roots_of_1_to_7"][6]))
        self.assertEqual(tlog.median_time(certificate), v["median_time_unix"])
        policy = tlog.parse_policy(tlog.lines(read("tlog.policy")))
        tlog.check_certificate(policy, certificate)
        with self.assertRaises(Refused):
            tlog.check_certificate(policy, certificate._replace(cosignatures=certificate.cosignatures[1:]))
        proof = tlog.parse_receipt(read("tlog.proof"))
        self.assertEqual((proof.leaf, proof.index, proof.certificate), (b"record 4", 4, certificate))
        tlog.check_inclusion(tlog.leaf_hash(proof.leaf), proof.index, certificate.size, proof.proof, certificate.root)

    def test_trust(self):
        v, bundle = load("trust.json"), tlog.TrustBundle(read("trust.bundle"))
        self.assertEqual((bundle.digest.hex(), bundle.origin), (v["digest"], v["origin"]))
        self.assertEqual([last for last, _ in bundle.epochs], [100, 200, 0])
        for size, epoch in ((0, 0), (100, 0), (101, 1), (200, 1), (201, 2), (2**63 - 1, 2)):
            self.assertIs(bundle.policy(size), bundle.epochs[epoch][1], size)

    def test_approval(self):
        v, text = load("approval.digest.json"), read("approval.json")
        self.assertEqual(statements.parse_approval(text)["algorithm"].hex(), v["module"])
        self.assertEqual(crypto.digest("statement", crypto.pae(statements.APPROVAL, text)).hex(), v["statement"])

    def test_raw(self):
        v = load("vectors/raw.json")
        codes = {"ENCODING_INT16": raw.INT16, "ENCODING_RICE": raw.RICE, "ENCODING_UNSPECIFIED": 0}
        for one in v["accepted"]:
            data, values = bytes.fromhex(one["hex"]), json.loads(one["values"])
            encoding = codes[one["encoding"]]
            self.assertEqual(raw.decode(data, encoding, one["channels"], one["samples_per_channel"]), values, one["name"])
            mine = raw.encode(values, encoding)
            self.assertEqual(raw.decode(mine, encoding, one["channels"], one["samples_per_channel"]), values, one["name"])
            self.assertEqual(mine, data, one["name"])
        for one in v["refused"]:
            with self.assertRaises(Refused, msg=one["name"]):
                raw.decode(bytes.fromhex(one["hex"]), codes[one["encoding"]], one["channels"], one["samples_per_channel"])

    def test_meter(self):
        """meter.py makes the same bytes as the vectors."""
        v = load("meter.json")
        made = ("raw_vector", "raw_digest", "counter", "previous", "header", "signed", "digest", "signature")
        challenge = {**v, "samples": [{k: x for k, x in s.items() if k not in made} for s in v["samples"]]}
        answer = meter.answer(challenge)
        self.assertEqual(answer["public_key"], v["public_key"])
        self.assertEqual(len(answer["samples"]), len(v["samples"]))
        for want, sample in zip(v["samples"], answer["samples"]):
            self.assertEqual(want, {**want, **sample}, want["name"])
            header, signature, vector = (bytes.fromhex(sample[name]) for name in ("header", "signature", "raw_vector"))
            h = statements.parse_header(header)
            self.assertEqual((h["counter"], h["previous"].hex(), h["raw_digest"].hex()), (want["counter"], want["previous"], want["raw_digest"]))
            signed = crypto.pae(crypto.SAMPLE_HEADER, header)
            self.assertEqual((signed.hex(), crypto.digest("sample", signed).hex()), (want["signed"], want["digest"]))
            self.assertTrue(crypto.verify(bytes.fromhex(v["public_key"]), signed, signature))
            self.assertEqual(raw.decode(vector, h["encoding"], h["channels"], h["samples_per_channel"]), json.loads(want["values"]))

    def test_head(self):
        v, trust = load("receipts/head.json"), tlog.TrustBundle(read("receipts/trust.bundle"))
        self.assertEqual(meter.known_block(read("receipts/head.proof"), trust),
                         (v["known_height"], bytes.fromhex(v["known_block"]), v["certified_at_unix"]))
        with self.assertRaises(Refused):  # genuine, but not the last leaf
            meter.known_block(read("receipts/measurement.receipt"), trust)

    def test_outbox_goes_on_after_a_power_cut(self):
        with tempfile.TemporaryDirectory() as folder:
            outbox = meter.Outbox(folder, 7)
            self.assertEqual((outbox.counter, outbox.previous), (7, b""))
            outbox.keep(7, bytes(range(32)), {})
            again = meter.Outbox(folder, 7)
            self.assertEqual((again.counter, again.previous), (8, bytes(range(32))))

    def test_ledger(self):
        """Leaf by leaf: roots, header digests and running digests of the administrative records."""
        v, hashes, admin, previous, size = load("ledger.json"), [], bytes(32), b"", 0
        for block in v["blocks"]:
            leaves = [base64.b64decode(leaf) for leaf in block["leaves"]]
            for leaf in leaves:
                hashes.append(tlog.leaf_hash(leaf))
                record = wire.decode("Record", leaf)
                if record["statement"] is not None:
                    admin = crypto.digest("adminchain", admin + crypto.digest("record", leaf))
            header = statements.parse_record(leaves[-1], "block_header")
            self.assertEqual((header["height"], header["previous"], header["first_index"], header["record_count"], header["admin"]),
                             (block["height"], previous, size, len(leaves) - 1, admin))
            self.assertEqual((admin.hex(), tlog.tree_hash(hashes).hex()), (block["admin"], block["root"]))
            previous, size = crypto.digest("blockheader", leaves[-1]), len(hashes)
            self.assertEqual(previous.hex(), block["header"])
            if header["certificate"]:
                certificate = tlog.parse_certificate(header["certificate"])
                self.assertEqual(certificate.root.hex(), v["blocks"][header["certified_height"]]["root"])
        genesis = wire.decode("Record", base64.b64decode(v["blocks"][0]["leaves"][0]))["statement"]
        network = crypto.digest("statement", crypto.pae(genesis["payload_type"], genesis["payload"]))
        self.assertEqual(network.hex(), v["networkId"])

    def test_receipt_and_bundle(self):
        trust = tlog.TrustBundle(read("receipts/trust.bundle"))
        for file, expected in (("receipts/measurement.receipt", "receipts/receipt.json"), ("receipts/measurement.bundle", "receipts/bundle.json")):
            want = load(expected)
            report = verify.Verifier(read(file), trust).run()
            self.assertEqual(report["verdict"], want["report"]["verdict"])
            for mine, theirs in zip(report["steps"], want["report"]["steps"]):
                self.assertEqual(mine["name"], theirs["name"])
                if mine["name"] != "re-execution":  # no engine here
                    self.assertEqual(mine["verdict"], theirs["verdict"], mine)
            self.assertEqual(len(report["steps"]), len(want["report"]["steps"]))
            self.assertIn(want["summary"]["digests"]["sample"], read("receipts/summary.txt").decode())

    def test_verdicts(self):
        v = load("receipts/verdicts.json")
        trust = {name: tlog.TrustBundle(text.encode()) if text else None for name, text in v["trust"].items()}
        for case in v["cases"]:
            report = verify.Verifier(base64.b64decode(case["bytes"]), trust[case["trust"]]).run()
            with self.subTest(case["name"]):
                self.assertEqual(report["kind"], case["kind"])
                self.assertEqual((report["verdict"], [s["verdict"] for s in report["steps"]]), (case["verdict"], case["steps"]), report)

    def test_forms(self):
        readers = {
            "sample-header": statements.parse_header, "claim": statements.parse_claim, "measurement": statements.parse_measurement,
            "record": statements.parse_any_record, "bundle": verify.parse_bundle, "approval": statements.parse_approval,
            "dsse": statements.parse_dsse, "certificate": tlog.parse_certificate, "policy": lambda b: tlog.parse_policy(tlog.lines(b)),
            "trust-bundle": tlog.TrustBundle, "id": lambda b: statements.check_id(b.decode()),
            "public-key": lambda b: crypto.check_key(b, crypto.ED25519, crypto.ZIP215, crypto.P256),
        }
        for v in load("forms.json"):
            data = v.get("text", "").encode() + bytes.fromhex(v.get("hex", "")) + bytes.fromhex(v.get("repeat_hex", "")) * v.get("repeat", 0)
            kind, _, message = v["format"].partition(" ")
            reader = (lambda b: wire.decode(message, b)) if kind == "message" else readers[v["format"]]
            with self.subTest(format=v["format"], name=v["name"]):
                if v["accepted"]:
                    reader(data)
                else:
                    with self.assertRaises(Refused):
                        reader(data)

    def test_tables_are_the_page_s(self):
        page = verify.read(os.path.join(TESTDATA, "..", "..", "docs", "formats.md")).decode()
        self.assertIn("```\n" + wire.TABLES + "```\n", page)

    def test_every_file_is_used(self):
        source = verify.read(os.path.abspath(__file__)).decode()
        for folder, _, files in os.walk(TESTDATA):
            for file in files:
                name = os.path.relpath(os.path.join(folder, file), TESTDATA).replace(os.sep, "/")
                self.assertTrue(name == "README.md" or '"%s"' % name in source, "%s is read by no test" % name)


if __name__ == "__main__":
    unittest.main()
