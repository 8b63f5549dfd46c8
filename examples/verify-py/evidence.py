"""Opens sealed evidence (docs/formats.md, "Sealed evidence"): HPKE of RFC 9180, base mode, written out."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire import need

MAGIC = b"lacre evidence 1"
CHUNK = 65536 + 16
KEM = b"KEM" + (0x20).to_bytes(2, "big")  # DHKEM(X25519, HKDF-SHA256)
SUITE = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (0x20, 1, 3))  # with HKDF-SHA256 and ChaCha20-Poly1305


def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def extract(suite, salt, label, key):
    return mac(salt or bytes(32), b"HPKE-v1" + suite + label + key)


def expand(suite, key, label, info, size):
    """One block of HKDF-Expand is enough: nothing here is longer than 32 bytes."""
    return mac(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01")[:size]


def open_sealed(sealed, private, network, meter, media_type):
    """Gives the content of a sealed piece, or raises Refused."""
    need(sealed[:16] == MAGIC and len(sealed) > 80, "%d bytes that are no sealed evidence" % len(sealed))
    key = X25519PrivateKey.from_private_bytes(private)
    own = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    enc = sealed[48:80]
    need(sealed[16:48] == own, "sealed to another key")
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
    except ValueError:
        need(False, "the encapsulated key gives no secret")
    secret = expand(KEM, extract(KEM, b"", b"eae_prk", shared), b"shared_secret", enc + own, 32)
    meter, media_type = meter.encode(), media_type.encode()
    info = b"lacre/evidence/hpke/v1\x00" + network + bytes([len(meter)]) + meter + bytes([len(media_type)]) + media_type
    context = b"\x00" + extract(SUITE, b"", b"psk_id_hash", b"") + extract(SUITE, b"", b"info_hash", info)
    secret = extract(SUITE, secret, b"secret", b"")
    aead = ChaCha20Poly1305(expand(SUITE, secret, b"key", context, 32))
    base = int.from_bytes(expand(SUITE, secret, b"base_nonce", context, 12), "big")
    content = b""
    for i, at in enumerate(range(80, len(sealed), CHUNK)):
        chunk, last = sealed[at:at + CHUNK], at + CHUNK >= len(sealed)
        need(len(chunk) > 16, "a chunk of %d bytes" % len(chunk))
        try:
            content += aead.decrypt((base ^ i).to_bytes(12, "big"), chunk, bytes([last]))
        except InvalidTag:
            need(False, "chunk %d does not open" % i)
    return content
