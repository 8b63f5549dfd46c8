// Module ABI lacre/1 and integer helpers. Define before: MODULE ("name version"), PARAMETERS, VALUES, SAMPLES (the
// capacity, all channels together); after: static i32 run(u32 length), which fills io.out.value and returns a code.
typedef int i32; typedef unsigned int u32; typedef long long i64;
#define EXPORT(name) __attribute__((export_name(#name))) i32 name
__asm__(".section .custom_section.lacre.module,\"\",@\n.ascii \"" MODULE "\"\n");

enum { HEADER = 32 + 8 * PARAMETERS };
static struct { // in this order in memory, so that the input lies last
  struct { u32 code, count; i64 value[VALUES]; } out;
  struct { u32 version, header, channels, samples; i64 rate; u32 parameters, reserved;
           i64 parameter[PARAMETERS]; short sample[SAMPLES]; } in;
} io __attribute__((aligned(16)));

static i32 run(u32 length);
EXPORT(abi_version)(void) { return 1; }
EXPORT(input_ptr)(void) { return (i32)&io.in; }
EXPORT(input_cap)(void) { return sizeof io.in; }
EXPORT(output_ptr)(void) { return (i32)&io.out; }
EXPORT(output_cap)(void) { return sizeof io.out; }
EXPORT(measure)(u32 length) {
  for (i32 i = 0; i < VALUES; i++) io.out.value[i] = 0;
  io.out.count = VALUES;
  io.out.code = run(length);
  return sizeof io.out;
}

static i64 max(i64 a, i64 b) { return a > b ? a : b; }
static i64 min(i64 a, i64 b) { return a < b ? a : b; }
static i64 magnitude(i64 a) { return a < 0 ? -a : a; }
static i32 outside(i64 a, i64 low, i64 high) { return a < low || a > high; }
static i64 root(i64 a) { // integer square root, rounded down
  i64 r = 0;
  for (i64 bit = a > 0 ? 1LL << ((63 - __builtin_clzll(a)) & 62) : 0; bit > 0; bit >>= 2) {
    if (a >= r + bit) { a -= r + bit; r = (r >> 1) + bit; } else r >>= 1;
  }
  return r;
}
static i64 products(const short *x, i64 a, const short *y, i64 b, i32 left, i32 step) { // sum of (x[i] - a) * (y[i] - b)
  i64 sum = 0; // i: 0, step ... left
#define TERM(k) (x[k * step] - a) * (y[k * step] - b)
  for (; left >= 3 * step; left -= 4 * step, x += 4 * step, y += 4 * step) sum += TERM(0) + TERM(1) + TERM(2) + TERM(3);
  for (; left >= 0; left -= step, x += step, y += step) sum += TERM(0);
  return sum;
}
static i32 bad_header(u32 length) {
  return length < HEADER || length > sizeof io.in || io.in.version != 1 || io.in.header != HEADER ||
    io.in.parameters != PARAMETERS || io.in.reserved != 0 ||
    io.in.channels > SAMPLES || io.in.samples > SAMPLES || length != HEADER + 2 * (i64)io.in.channels * io.in.samples;
}
