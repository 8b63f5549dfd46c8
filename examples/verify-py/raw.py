"""Raw vectors and the module's input and output (docs/formats.md, "Raw vectors", "Modules")."""
import struct

from wire import Refused, need

INT16, RICE = 1, 2
MAX_SAMPLES, MAX_BYTES = 131072, 524288
BLOCK, ESCAPE, ESCAPE_BITS, VERBATIM = 64, 24, 19, 15


def check_shape(channels, samples):
    need(1 <= channels <= 16 and 1 <= samples <= MAX_SAMPLES, "%d channels of %d samples" % (channels, samples))


def decode(data, encoding, channels, samples):
    """The channels of a raw vector, each a list of samples; or Refused."""
    check_shape(channels, samples)
    need(len(data) <= MAX_BYTES, "raw vector of %d bytes" % len(data))
    if encoding == INT16:
        need(len(data) == 2 * channels * samples, "%d bytes for %d x %d samples" % (len(data), channels, samples))
        values = struct.unpack("<%dh" % (channels * samples), data)
        return [list(values[c * samples:(c + 1) * samples]) for c in range(channels)]
    need(encoding == RICE, "encoding %s" % encoding)
    bits = Bits(data)
    out = [_channel(bits, samples) for _ in range(channels)]
    need(len(data) == (bits.at + 7) // 8, "%d bytes, %d bits were read" % (len(data), bits.at))
    need(bits.take(8 * len(data) - bits.at) == 0, "a padding bit is set")
    return out


class Bits:
    """Reads bits, the most significant of each byte first."""

    def __init__(self, data):
        self.text, self.at = "".join("{:08b}".format(b) for b in data), 0

    def take(self, count):
        self.at += count
        need(self.at <= len(self.text), "ends too early")
        return int(self.text[self.at - count:self.at] or "0", 2)

    def zeros(self, most):
        """Counts zero bits up to the next one bit and takes that too; at most `most`, which no one bit follows."""
        stop = self.text.find("1", self.at, self.at + most)
        if stop >= 0:
            count, self.at = stop - self.at, stop + 1
            return count
        need(self.at + most <= len(self.text), "ends too early")
        self.at += most
        return most


def predict(p, v, d, e):
    return (0, v, v + d, v + d + e)[p]


def _channel(bits, samples):
    v, d, e = signed16(bits.take(16)), 0, 0
    out = [v]
    while len(out) < samples:
        p, k = bits.take(2), bits.take(4)
        need(k != VERBATIM or p == 0, "verbatim block with a predictor")
        for _ in range(min(BLOCK, samples - len(out))):
            if k == VERBATIM:
                x = signed16(bits.take(16))
            else:
                q = bits.zeros(ESCAPE)
                u = q << k | bits.take(k) if q < ESCAPE else bits.take(ESCAPE_BITS)
                need(q < ESCAPE or u >> k >= ESCAPE, "escape of a short value")
                x = predict(p, v, d, e) + (u >> 1 ^ -(u & 1))
                need(-32768 <= x <= 32767, "sample outside 16 bits")
            v, d, e = x, x - v, x - v - d
            out.append(x)
    return out


def signed16(n):
    return n - 65536 if n >= 32768 else n


def encode(values, encoding):
    """Encodes channels. Orders and parameters are an encoder's choice; these are the ones that make the vectors' bytes."""
    if encoding == INT16:
        return b"".join(struct.pack("<%dh" % len(channel), *channel) for channel in values)
    text = "".join(map(_encode_channel, values))
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))


def _encode_channel(x):
    v, d, e = x[0], 0, 0
    out = ["{:016b}".format(x[0] & 0xFFFF)]
    for begin in range(1, len(x), BLOCK):
        block, folded = x[begin:begin + BLOCK], [[], [], [], []]
        for sample in block:
            for p in range(4):
                r = sample - predict(p, v, d, e)
                folded[p].append(2 * r if r >= 0 else -2 * r - 1)
            v, d, e = sample, sample - v, sample - v - d
        p = min(range(4), key=lambda p: sum(folded[p]))
        guess = (sum(folded[p]) // len(block)).bit_length() - 1
        codes = ["".join(_code(u, k) for u in folded[p]) for k in range(max(0, guess - 2), min(14, guess + 1) + 1)]
        best = min(codes, key=len)
        if len(best) >= 16 * len(block):
            out.append("001111" + "".join("{:016b}".format(s & 0xFFFF) for s in block))
        else:
            out.append("{:02b}{:04b}".format(p, max(0, guess - 2) + codes.index(best)) + best)
    return "".join(out)


def _code(u, k):
    q = u >> k
    if q >= ESCAPE:
        return "0" * ESCAPE + "{:019b}".format(u)
    return "0" * q + "{:b}".format(1 << k | u & (1 << k) - 1)


def module_input(rate_millihertz, parameters, values):
    """The exact input bytes of a module."""
    head = struct.pack("<IIIIQII", 1, 32 + 8 * len(parameters), len(values), len(values[0]), rate_millihertz, len(parameters), 0)
    return head + struct.pack("<%dq" % len(parameters), *parameters) + encode(values, INT16)


def parse_result(data):
    """Code and values of a module's output bytes."""
    need(8 <= len(data) <= 8 + 8 * 64, "result of %d bytes" % len(data))
    code, count = struct.unpack_from("<II", data)
    need(len(data) == 8 + 8 * count and code <= 100, "code %d with %d values in %d bytes" % (code, count, len(data)))
    need(code != 100 or count == 0, "a failed execution with values")
    return code, struct.unpack_from("<%dq" % count, data, 8)
