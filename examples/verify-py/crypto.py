"""Digests, keys, signatures and PAE (docs/formats.md, "Digests", "Keys and signatures", "DSSE and PAE").

Tags 1 and 3 are checked by python3-cryptography. Tag 2 is the ZIP-215 predicate, which no package of Debian's offers:
twenty lines of integer arithmetic, slow (some milliseconds) and exact. It is for verifying only: it is not constant-time.
"""
import functools
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from wire import need

SAMPLE_HEADER = "application/vnd.lacre.sample-header.v1+protobuf"
ENDORSEMENT = "application/vnd.lacre.endorsement.v1"
ED25519, ZIP215, P256 = 1, 2, 3


def sha256(data):
    return hashlib.sha256(data).digest()


def digest(kind, data):
    """The digest of kind `kind` over bytes."""
    return sha256(b"lacre/" + kind.encode() + b"/v1\x00" + data)


def digest_fields(kind, fields):
    """The digest of kind `kind` over a list of fields."""
    return sha256(b"lacre/" + kind.encode() + b"/v1\x01" + b"".join(u64be(len(f)) + f for f in fields))


def u64be(n):
    return n.to_bytes(8, "big")


def pae(payload_type, body):
    return b"DSSEv1 %d %s %d " % (len(payload_type.encode()), payload_type.encode(), len(body)) + body


def key_id(tagged):
    return digest("publickey", tagged).hex()


# Edwards25519: -x^2 + y^2 = 1 + d x^2 y^2 over the field of P elements; the base point generates L points.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def _add(p, q):  # extended coordinates X:Y:Z:T, x = X/Z, y = Y/Z, x*y = T/Z; complete for every pair of points
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(n, p):
    q = (0, 1, 1, 0)
    for bit in bin(n)[2:]:
        q = _add(q, q)
        if bit == "1":
            q = _add(q, p)
    return q


def _is_identity(p):
    return p[0] % P == 0 and (p[1] - p[2]) % P == 0


def decode_point(encoded):
    """A point from 32 bytes, in any encoding of it: y may be P or more, and x = 0 may bear a sign (ZIP-215). None if none."""
    n = int.from_bytes(encoded, "little")
    y, sign = (n & (1 << 255) - 1) % P, n >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P  # candidate for the root of u/v (RFC 8032, 5.1.3)
    if v * x * x % P == P - u and u != 0:
        x = x * ROOT_OF_MINUS_1 % P
    if (v * x * x - u) % P != 0:
        return None
    if x & 1 != sign:
        x = P - x if x else 0
    return x, y, 1, x * y % P


def encode_point(p):
    z = pow(p[2], P - 2, P)
    x, y = p[0] * z % P, p[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode_point(bytes([0x58]) + bytes([0x66]) * 31)


def _zip215(key, message, signature):
    a, r, s = decode_point(key), decode_point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus = [(P - q[0], q[1], q[2], P - q[3]) for q in (a, r)]
    difference = _add(_add(_multiply(s, BASE), _multiply(k, minus[0])), minus[1])
    return _is_identity(_multiply(8, difference))


@functools.lru_cache(1024)
def check_key(tagged, *tags):
    """A key as it may be registered: of one of the tags, canonical, and of the prime-order group or on the curve."""
    need(len(tagged) > 0 and tagged[0] in tags, "key of kind %s, want %s" % (tagged[:1].hex(), tags))
    if tagged[0] == P256:
        need(len(tagged) == 66 and tagged[1] == 4, "P-256 key of %d bytes" % len(tagged))
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), tagged[1:])
        except ValueError:
            need(False, "not a point of P-256")
        return
    need(len(tagged) == 33, "Ed25519 key of %d bytes" % len(tagged))
    point = decode_point(tagged[1:])
    need(point is not None and encode_point(point) == tagged[1:], "not the canonical encoding of a point")
    need(not _is_identity(point) and _is_identity(_multiply(L, point)), "not of the prime-order subgroup")


N256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@functools.lru_cache(1024)  # pure: the same bytes have the same answer
def verify(tagged, message, signature):
    """Whether a signature of 64 bytes holds under a tagged key, by the predicate of the key's kind."""
    if len(signature) != 64:
        return False
    try:
        if tagged[0] == ED25519:
            ed25519.Ed25519PublicKey.from_public_bytes(tagged[1:]).verify(signature, message)
            return True
        if tagged[0] == ZIP215:
            return _zip215(tagged[1:], message, signature)
        if tagged[0] == P256:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            if not (1 <= r < N256 and 1 <= s <= N256 // 2):
                return False
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), tagged[1:])
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
            return True
    except (InvalidSignature, ValueError):
        pass
    return False
