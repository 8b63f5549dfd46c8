"""Records, statements and approvals (docs/formats.md, "Identifiers", "Samples", "Records", "Statements", "Approvals")."""
import calendar
import json
import re
import time

import raw
import wire
from crypto import ED25519, P256, SAMPLE_HEADER, check_key, digest, key_id, pae, verify
from tlog import b64
from wire import Refused, need

APPROVAL = "application/vnd.in-toto+json"
TYPES = {"application/vnd.lacre.%s.v1+protobuf" % name: message for name, message in (
    ("network-config", "NetworkConfig"), ("node-registration", "NodeRegistration"),
    ("meter-registration", "MeterRegistration"), ("meter-key-rollover", "MeterKeyRollover"),
    ("meter-parameters", "MeterParameters"), ("meter-status", "MeterStatus"),
    ("national-table", "NationalTable"))}
MAX_RECORD = 60000


def need_digest(value, what, absent=False):
    need(len(value) == 32 or (absent and not value), "%s has %d bytes" % (what, len(value)))


def check_id(text):
    need(re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?", text), "not an id: %.70s" % text)
    return text


def parse_header(data):
    """A sample header: its form, not its standing on a ledger."""
    need(len(data) <= 2048, "sample header of %d bytes" % len(data))
    h = wire.decode("SampleHeader", data)
    for field in ("network_id", "known_block", "raw_digest"):
        need_digest(h[field], field)
    need_digest(h["previous"], "previous", absent=True)
    need(h["previous"] != bytes(32), "previous is all zero: leave it out in the first sample")
    need(h["counter"] > 0, "counters begin at 1")
    check_id(h["meter_id"])
    need(h["captured_at_unix_nano"] > 0 and h["clock_sync"] > 0 and h["encoding"] > 0, "capture time, clock or encoding missing")
    need(h["channels"] >= 2 and h["sample_rate_millihertz"] > 0, "fewer than 2 channels, or no sample rate")
    raw.check_shape(h["channels"], h["samples_per_channel"])
    need(len(h["evidence"]) <= 8, "%d pieces of evidence" % len(h["evidence"]))
    for one in h["evidence"]:
        need_digest(one["digest"], "evidence")
        need(1 <= one["size"] <= 64 << 20, "evidence of %d bytes" % one["size"])
        need(len(one["media_type"]) <= 64 and re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", one["media_type"]), "not a media type")
    return h


def parse_claim(data):
    need(len(data) <= 1024, "claim of %d bytes" % len(data))
    c = wire.decode("Claim", data)
    for field in ("network_id", "sample", "algorithm", "registration", "input"):
        need_digest(c[field], field)
    need(c["fuel_used"] <= c["fuel_limit"], "more fuel used than the limit")
    c["code"], c["values"] = raw.parse_result(c["result"])
    return c


def parse_any_record(data):
    need(1 <= len(data) <= MAX_RECORD, "record of %d bytes" % len(data))
    return wire.decode("Record", data)


def parse_record(data, body):
    """The body of a leaf, which must be of the named kind."""
    record = parse_any_record(data)
    need(record[body] is not None, "not a record of a %s" % body)
    return record[body]


def parse_measurement(leaf):
    """A measurement leaf, complete in itself: the message, its sample header and its claim."""
    m = parse_record(leaf, "measurement")
    h, c = parse_header(m["header"]), parse_claim(m["claim"])
    for field in ("endorsement_set", "approval", "config"):
        need_digest(m[field], field)
    need(len(m["signature"]) == 64 and m["claim_index"] < 1024 and m["disposition"] > 0, "signature, claim index or disposition")
    need(c["sample"] == digest("sample", pae(SAMPLE_HEADER, m["header"])), "the claim is about another sample")
    need(h["network_id"] == c["network_id"], "header and claim are of two networks")
    return m, h, c


def parse_endorsement_set(leaf):
    e = parse_record(leaf, "endorsement_set")
    for value in e["claims"]:
        need_digest(value, "a claim's leaf hash")
    ids = [""] + [one["node_id"] for one in e["endorsements"]]
    need(all(a < b for a, b in zip(ids, ids[1:])), "endorsements do not ascend by distinct node")
    return e


def parse_dsse(file):
    """A statement's file: payload type, payload, and the signatures as (key id, signature)."""
    need(len(file) <= 98304, "DSSE file of %d bytes" % len(file))
    try:
        v = json.loads(file.decode("utf-8"))
        payload_type, payload = v["payloadType"], b64(v["payload"])
        signatures = [(s["keyid"], b64(s["sig"], 64)) for s in v["signatures"]]
        again = '{"payloadType":"%s","payload":"%s","signatures":[%s]}' % (payload_type, v["payload"], ",".join(
            '{"keyid":"%s","sig":"%s"}' % (s["keyid"], s["sig"]) for s in v["signatures"]))
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise Refused("DSSE file: %s" % err) from None
    need(again.encode() == file, "DSSE file is not in its one form")
    need(re.fullmatch(r"[!#-\[\]-~]{1,255}", payload_type), "payload type %.60s" % payload_type)
    need(1 <= len(payload) <= 60000 and 1 <= len(signatures) <= 64, "payload of %d bytes, %d signatures" % (len(payload), len(signatures)))
    need(all(re.fullmatch("[0-9a-f]{64}", i) for i, _ in signatures), "a key id is not 64 hexadecimal digits")
    need(all(a[0] < b[0] for a, b in zip(signatures, signatures[1:])), "signatures do not ascend by distinct key id")
    return payload_type, payload, signatures


class Statement:
    """An administrative statement of a leaf: body (a message, or an approval), PAE, digest and signatures. Its form and that it
    may stand there was the replicas' to check; here it is read and compared."""

    def __init__(self, leaf, payload_type):
        e = parse_record(leaf, "statement")
        need(e["payload_type"] == payload_type, "statement of type %s, want %s" % (e["payload_type"], payload_type))
        self.pae = pae(payload_type, e["payload"])
        self.digest = digest("statement", self.pae)
        self.signatures = e["signatures"]
        self.body = parse_approval(e["payload"]) if payload_type == APPROVAL else wire.decode(TYPES[payload_type], e["payload"])

    def check_place(self, network, subject):
        h = self.body["header"] or {"network_id": b"", "subject": ""}
        need(h["subject"] == subject, "statement on %s, want %s" % (h["subject"], subject))
        need(h["network_id"] == network, "statement of another network")

    def signed_by(self, tagged):
        """Whether the first signature that bears this key's id is one, by a key that may sign statements."""
        if tagged[:1] not in (bytes([ED25519]), bytes([P256])):
            return False
        signature = next((s["signature"] for s in self.signatures if s["key_id"] == key_id(tagged)), None)
        return signature is not None and verify(tagged, self.pae, signature)


# Approvals: one JSON text. parse_approval rebuilds the text from what it read, and compares.


def quote(text):
    return json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _text(v):
    need(isinstance(v, str) and 1 <= len(v.encode()) <= 128, "a text of 1 to 128 bytes")
    need(not any(c < " " or c in "\x7f\ufffd" for c in v), "control character in a text")
    return quote(v)


def _id(v):
    need(isinstance(v, str), "an id")
    return quote(check_id(v))


def _hex(v):
    need(isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v), "a digest in hexadecimal")
    return quote(v)


def _nonzero(v):
    need(v != "0" * 64, "a digest that is all zero")
    return _hex(v)


def _number(least, most):
    def number(v):
        need(type(v) is int and least <= v <= most, "a whole number from %d to %d" % (least, most))
        return str(v)
    return number


def nanoseconds(v):
    need(isinstance(v, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", v), "a time")
    try:
        parsed = time.strptime(v, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise Refused("not a time: %s" % v) from None
    need(time.strftime("%Y-%m-%dT%H:%M:%SZ", parsed) == v, "not a time: %s" % v)
    need(0 < calendar.timegm(parsed) < 9 * 10**9, "a time outside 1970 to 2255")
    return calendar.timegm(parsed) * 10**9


def _time(v):
    nanoseconds(v)
    return quote(v)


def _literal(want):
    def literal(v):
        need(type(v) is type(want) and v == want, "%s, want %s" % (v, want))
        return json.dumps(want)
    return literal


def _key(v):
    need(isinstance(v, str), "a key in base64")
    check_key(b64(v), ED25519, P256)
    return quote(v)


def _list(element, least, most):
    def items(v):
        need(isinstance(v, list) and least <= len(v) <= most, "a list of %d to %d" % (least, most))
        return "[" + ",".join(map(element, v)) + "]"
    return items


def _object(*fields):
    def members(v):
        need(isinstance(v, dict), "an object")
        need(set(v) == {name for name, _ in fields}, "fields %s" % sorted(v))
        return "{" + ",".join(quote(name) + ":" + write(v[name]) for name, write in fields) + "}"
    return members


def _statement(v):
    fields = [("network", _hex), ("sequence", _number(1, 2**53 - 1)), ("predecessor", _nonzero), ("issuedAt", _time)]
    if isinstance(v, dict) and v.get("sequence") == 1:
        del fields[2]
    return _object(*fields)(v)


def _policy(v, depth=0):
    if isinstance(v, dict) and "organisation" in v:
        return _object(("organisation", _id))(v)
    need(depth < 4, "policy nested too deep")
    branches = v.get("of") if isinstance(v, dict) else None
    most = len(branches) if isinstance(branches, list) else 0
    return _object(("threshold", _number(1, most)), ("of", _list(lambda w: _policy(w, depth + 1), 1, 64)))(v)


_FIELD = _object(("name", _text), ("unit", _text), ("scale", _number(-18, 18)))
_APPROVAL = _object(
    ("_type", _literal("https://in-toto.io/Statement/v1")),
    ("subject", _list(_object(("name", _text), ("digest", _object(("sha256", _nonzero)))), 1, 1)),
    ("predicateType", _literal("https://lacre-metrology.github.io/type-approval/v1")),
    ("predicate", _object(
        ("statement", _statement), ("notifiedBody", _id),
        ("manufacturer", _object(("name", _text), ("publicKey", _key))),
        ("module", _object(("name", _text), ("version", _text))),
        ("profileVersion", _number(1, 2**32 - 1)), ("fuelLimit", _number(1, 2**53 - 1)),
        ("schema", _object(("parameters", _list(_FIELD, 0, 64)), ("values", _list(_FIELD, 1, 64)),
                           ("refusals", _list(_object(("code", _number(1, 99)), ("name", _text)), 0, 99)))),
        ("policy", _policy), ("validity", _object(("notBefore", _time), ("notAfter", _time))),
        ("testReport", _object(("sha256", _nonzero))),
        ("disclosure", lambda v: _literal("withheld")(v) if v == "withheld" else _literal("public")(v)))))


def organisations(policy):
    if "organisation" in policy:
        return [policy["organisation"]]
    return [o for branch in policy["of"] for o in organisations(branch)]


def satisfied(policy, endorsed):
    if "organisation" in policy:
        return policy["organisation"] in endorsed
    return sum(satisfied(branch, endorsed) for branch in policy["of"]) >= policy["threshold"]


def parse_approval(data):
    need(len(data) <= 16384, "approval of %d bytes" % len(data))
    try:
        v = json.loads(data.decode("utf-8"))
        text = _APPROVAL(v).encode()
    except (ValueError, RecursionError) as err:
        raise Refused("approval: %s" % err) from None
    need(text == data, "approval is not in its one form")
    p = v["predicate"]
    need(v["subject"][0]["name"] == p["module"]["name"], "two module names")
    for fields in (p["schema"]["parameters"], p["schema"]["values"]):
        names = [f["name"] for f in fields]
        need(len(set(names)) == len(names), "two fields of one name")
    codes = [r["code"] for r in p["schema"]["refusals"]]
    need(all(a < b for a, b in zip(codes, codes[1:])), "refusals do not ascend by code")
    named = organisations(p["policy"])
    need(len(named) <= 64 and len(set(named)) == len(named), "organisations of the policy")
    need(nanoseconds(p["validity"]["notBefore"]) < nanoseconds(p["validity"]["notAfter"]), "validity ends before it begins")
    p["algorithm"] = bytes.fromhex(v["subject"][0]["digest"]["sha256"])
    return p
