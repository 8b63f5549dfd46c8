"""Canonical protobuf (docs/formats.md, "Canonical protobuf"): one meaning, one byte string.

A message decodes to a dict of all its fields: defaults where absent, None for an absent message. decode refuses whatever
encode would not have written.
"""


class Refused(ValueError):
    """The bytes are not of the form that docs/formats.md allows, or do not hold what they must."""


def need(holds, why):
    if not holds:
        raise Refused(why)


# The tables of docs/formats.md, "Messages": number, name and type of each field; a star marks a list.
TABLES = """\
Evidence: 1 digest bytes, 2 size uint64, 3 media_type string
SampleHeader: 1 network_id bytes, 2 meter_id string, 3 counter uint64, 4 previous bytes,
    5 captured_at_unix_nano int64, 6 clock_sync ClockSync, 7 known_height uint64, 8 known_block bytes,
    9 channels uint32, 10 samples_per_channel uint32, 11 sample_rate_millihertz uint64, 12 encoding Encoding,
    13 raw_digest bytes, 14 evidence Evidence*, 15 status_flags uint32
Heartbeat: 1 network_id bytes, 2 meter_id string, 3 newest_counter uint64, 4 newest_sample bytes,
    5 at_unix_nano int64, 6 clock_sync ClockSync, 7 known_height uint64, 8 known_block bytes,
    9 status_flags uint32
SignedHeartbeat: 1 heartbeat bytes, 2 signature bytes
Claim: 1 network_id bytes, 2 sample bytes, 3 algorithm bytes, 4 registration bytes, 5 profile_version uint32,
    6 fuel_limit uint64, 7 fuel_used uint64, 8 input bytes, 9 result bytes
Endorsement: 1 node_id string, 2 signature bytes
EndorsementSet: 1 network_id bytes, 2 algorithm bytes, 3 claims bytes*, 4 endorsements Endorsement*
Measurement: 1 header bytes, 2 signature bytes, 3 claim bytes, 4 claim_index uint32, 5 endorsement_set bytes,
    6 approval bytes, 7 config bytes, 8 disposition Disposition
enum ClockSync: 1 SYNCHRONISED, 2 HOLDOVER, 3 NOT_SYNCHRONISED
enum Encoding: 1 INT16, 2 RICE
enum Disposition: 1 ON_TIME, 2 LATE
Record: 1 statement Envelope, 2 endorsement_set EndorsementSet, 3 measurement Measurement,
    4 security_event SecurityEvent, 5 block_header BlockHeader, 6 heartbeat SignedHeartbeat
Envelope: 1 payload_type string, 2 payload bytes, 3 signatures EnvelopeSignature*
EnvelopeSignature: 1 key_id string, 2 signature bytes
SecurityEvent: 1 report bytes, 2 signature bytes
EventReport: 1 network_id bytes, 2 reporter string, 3 kind EventKind, 4 subject string, 5 counter uint64,
    6 evidence bytes*, 7 detail string
SignedSample: 1 header bytes, 2 signature bytes
Genesis: 1 records bytes*, 2 block_time_unix_nano int64
BlockHeader: 1 version uint32, 2 height uint64, 3 previous bytes, 4 first_index uint64, 5 record_count uint32,
    6 block_time_unix_nano int64, 7 config bytes, 8 writes bytes, 9 admin bytes, 10 certified_height uint64,
    11 certificate bytes
enum EventKind: 1 METER_EQUIVOCATION, 2 ENDORSERS_DISAGREE, 3 REFUSED_INSTALLATION, 4 ENGINE_DIVERGENCE,
    5 EVIDENCE_READ
StatementHeader: 1 network_id bytes, 2 subject string, 3 sequence uint64, 4 predecessor bytes,
    5 issued_at_unix_nano int64
Organisation: 1 id string, 2 root_key bytes, 3 evidence_key bytes
Replica: 1 node_id string, 2 organisation string, 3 cosigner_key bytes, 4 log_key bytes
NotifiedBody: 1 id string, 2 keys bytes*, 3 threshold uint32, 4 organisation string
Limits: 1 lateness_bound_nano int64, 2 future_bound_nano int64, 3 max_missing_ranges uint32,
    4 max_uncertified_blocks uint32, 5 raw_vector_retention_nano int64
NetworkConfig: 1 header StatementHeader, 2 name string, 3 organisations Organisation*, 4 replicas Replica*,
    5 quorum uint32, 6 notified_bodies NotifiedBody*, 7 limits Limits, 8 record_version uint32,
    9 recovery Recovery
Recovery: 1 height uint64, 2 header bytes, 3 size uint64, 4 root bytes, 5 ordering_index uint64,
    6 locks Envelope*
RecoveryLock: 1 network_id bytes, 2 config bytes, 3 node_id string, 4 locked RecoveryPoint,
    5 certified RecoveryPoint, 6 head RecoveryPoint, 7 applied_index uint64, 8 cosigner_key bytes,
    9 log_key bytes
RecoveryPoint: 1 height uint64, 2 header bytes, 3 size uint64, 4 root bytes
NodeRegistration: 1 header StatementHeader, 2 node_id string, 3 organisation string, 4 role Role, 5 key bytes,
    6 tls_spki bytes
NodeRevocation: 1 header StatementHeader, 2 node_id string, 3 reason string
AlgorithmStatus: 1 header StatementHeader, 2 algorithm bytes, 3 action AlgorithmAction,
    4 effective_at_unix_nano int64, 5 reason string, 6 successor bytes
Site: 1 name string, 2 latitude_e7 sint32, 3 longitude_e7 sint32, 4 lane uint32
Verification: 1 certificate string, 2 valid_from_unix_nano int64, 3 valid_until_unix_nano int64
MeterRegistration: 1 header StatementHeader, 2 meter_id string, 3 key bytes, 4 tls_spki bytes, 5 model string,
    6 type_approval string, 7 algorithm bytes, 8 channels uint32, 9 sample_rate_millihertz uint64,
    10 parameters sint64*, 11 site Site, 12 verification Verification, 13 seal string,
    14 first_counter uint64, 15 national_table string
MeterParameters: 1 header StatementHeader, 2 meter_id string, 3 version uint32,
    4 effective_at_unix_nano int64, 5 algorithm bytes, 6 sample_rate_millihertz uint64, 7 parameters sint64*,
    8 site Site, 9 seal string, 10 national_table string, 11 reason string
MeterStatus: 1 header StatementHeader, 2 meter_id string, 3 action MeterAction,
    4 effective_at_unix_nano int64, 5 verification Verification, 6 reason string
MeterKeyRollover: 1 header StatementHeader, 2 meter_id string, 3 key bytes, 4 first_counter uint64,
    5 tls_spki bytes
ErrorBand: 1 up_to sint64, 2 absolute sint64, 3 relative_ppm uint32
NationalTable: 1 header StatementHeader, 2 table_id string, 3 version uint32, 4 valid_from_unix_nano int64,
    5 value string, 6 unit string, 7 scale sint32, 8 bands ErrorBand*, 9 rounding Rounding, 10 step sint64,
    11 source string, 12 source_status SourceStatus
EvidenceErasure: 1 header StatementHeader, 2 evidence bytes, 3 organisation string, 4 rule string,
    5 evidence_key bytes
RawVectorExpiry: 1 header StatementHeader, 2 below_height uint64, 3 last_block bytes, 4 rule string
CanaryCommitment: 1 header StatementHeader, 2 canary_id string, 3 commitment bytes, 4 notified_body string
CanaryVector: 1 meter_id string, 2 counter uint64, 3 raw_digest bytes, 4 result bytes
CanaryExpectation: 1 salt bytes, 2 vectors CanaryVector*
CanaryReveal: 1 header StatementHeader, 2 canary_id string, 3 expectation bytes, 4 verdicts CanaryVerdict*,
    5 notified_body string
enum Role: 1 REPLICA, 2 ENDORSER, 3 GATEWAY, 4 APPROVAL, 5 AUTHORITY
enum AlgorithmAction: 1 SUSPEND, 2 RESUME, 3 WITHDRAW, 4 SUPERSEDE
enum MeterAction: 1 SUSPEND, 2 RESUME, 3 SEAL_BROKEN, 4 KEY_COMPROMISED, 5 VERIFIED, 6 DECOMMISSION
enum Rounding: 1 DOWN, 2 HALF_UP, 3 UP
enum SourceStatus: 1 READ, 2 SECONDARY, 3 EXAMPLE
enum CanaryVerdict: 1 MATCH, 2 MISMATCH, 3 MISSING
ProvenRecord: 1 record bytes, 2 index uint64, 3 proof bytes*
Bundle: 1 version uint32, 2 receipt bytes, 3 endorsement_set ProvenRecord, 4 registration ProvenRecord,
    5 approval ProvenRecord, 6 config ProvenRecord, 7 nodes ProvenRecord*, 8 rollovers ProvenRecord*,
    9 raw_vector bytes, 10 module bytes, 11 parameters ProvenRecord, 12 national_table ProvenRecord,
    13 history ProvenRecord*
Completeness: 1 version uint32, 2 certificate bytes, 3 first_counter uint64, 4 last_counter uint64,
    5 registration ProvenRecord, 6 rollovers ProvenRecord*, 7 measurements ProvenRecord*
ConfigurationHistory: 1 configurations CertifiedConfiguration*
CertifiedConfiguration: 1 configuration ProvenRecord, 2 certificate bytes
ProvenExpiry: 1 configurations ConfigurationHistory, 2 decision ProvenRecord, 3 certificate bytes
"""


def _schema(tables):
    """Messages as lists of (number, name, type), and enums as their largest values."""
    schema = {}
    for line in tables.replace("\n   ", "").splitlines():
        name, fields = line.split(": ", 1)
        fields = [field.split(" ") for field in fields.split(", ")]
        schema[name.replace("enum ", "")] = (int(fields[-1][0]) if line.startswith("enum ") else
                                             [(int(number), field, kind) for number, field, kind in fields])
    return schema


SCHEMA = _schema(TABLES)
DEFAULT = {"bytes": b"", "string": ""}  # of numbers 0, of messages None, of lists []
WIDTH = {"uint32": 32, "sint32": 32, "uint64": 64, "int64": 64, "sint64": 64}
ONEOF = {"Record"}  # exactly one field
MAX_DELIMITED = 65536


def is_message(kind):
    return isinstance(SCHEMA.get(kind), list)


def is_number(kind):
    return kind in WIDTH or isinstance(SCHEMA.get(kind), int)


def decode(name, data):
    """Decodes the bytes of message `name`, or raises Refused."""
    budget = [MAX_DELIMITED]
    return _message(name, data, 0, len(data), budget)


def _varint(data, at, end):
    value = 0
    for i in range(10):
        need(at + i < end, "varint past the end")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            need(i == 0 or byte != 0, "padded varint")
            need(value < 1 << 64, "varint above 64 bits")
            return value, at + i + 1
    raise Refused("varint above 64 bits")


def _scalar(kind, value):
    if kind not in WIDTH:
        need(value <= SCHEMA[kind], "unknown value %d of %s" % (value, kind))
        return value
    need(value < 1 << WIDTH[kind], "number above %d bits" % WIDTH[kind])
    if kind in ("sint32", "sint64"):  # zigzag
        return (value >> 1) ^ -(value & 1)
    if kind == "int64" and value >= 1 << 63:  # two's complement
        return value - (1 << 64)
    return value


def _message(name, data, at, end, budget):
    fields = {number: (field, kind.rstrip("*"), kind.endswith("*")) for number, field, kind in SCHEMA[name]}
    out = {field: [] if repeated else None if is_message(kind) else DEFAULT.get(kind, 0) for field, kind, repeated in fields.values()}
    last = 0
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        need(number in fields, "%s: unknown field %d" % (name, number))
        field, kind, repeated = fields[number]
        packed = repeated and is_number(kind)
        need(number > last or (number == last and repeated and not packed), "%s.%s: fields do not ascend" % (name, field))
        need(last == 0 or name not in ONEOF, "%s: two of its fields" % name)
        last = number
        delimited = packed or not is_number(kind)
        need(wire == (2 if delimited else 0), "%s.%s: wire type %d" % (name, field, wire))
        if not delimited:
            value, at = _varint(data, at, end)
            need(value != 0, "%s.%s: default written" % (name, field))
            out[field] = _scalar(kind, value)
            continue
        budget[0] -= 1
        need(budget[0] >= 0, "too many length-delimited fields")
        length, at = _varint(data, at, end)
        stop = at + length
        need(stop <= end, "%s.%s: length past the end" % (name, field))
        if packed:
            need(length > 0, "%s.%s: empty packed list" % (name, field))
            while at < stop:
                value, at = _varint(data, at, stop)
                out[field].append(_scalar(kind, value))
            continue
        if is_message(kind):
            value = _message(kind, data, at, stop, budget)
        else:
            value = bytes(data[at:stop])
            need(repeated or length > 0, "%s.%s: default written" % (name, field))
            if kind == "string":
                try:
                    value = value.decode("utf-8")
                except UnicodeDecodeError:
                    raise Refused("%s.%s: not UTF-8" % (name, field)) from None
        at = stop
        if repeated:
            out[field].append(value)
        else:
            out[field] = value
    return out


def encode(name, values):
    """Encodes a dict of fields as message `name`; what is absent or default is left out."""
    out = bytearray()
    for number, field, kind in SCHEMA[name]:
        value, kind = values.get(field), kind.rstrip("*")
        if not value and not (is_message(kind) and value is not None):
            continue
        if not isinstance(value, (list, tuple)):
            value = [value]
        elif is_number(kind):  # packed
            kind, value = "bytes", [b"".join(_number(kind, v) for v in value)]
        for one in value:
            if is_number(kind):
                out += _put(number << 3) + _number(kind, one)
            else:
                one = encode(kind, one) if is_message(kind) else one.encode() if kind == "string" else one
                out += _put(number << 3 | 2) + _put(len(one)) + one
    return bytes(out)


def _number(kind, value):
    if kind in ("sint32", "sint64"):
        return _put(value * 2 if value >= 0 else -value * 2 - 1)
    return _put(value % (1 << 64))


def _put(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
