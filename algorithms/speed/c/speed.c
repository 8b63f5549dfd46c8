// Speed of a vehicle over N >= 2 loops: the legally relevant software. Its Go twin (../measure.go, edges, correlate, fuse,
// crosstalk) explains every step and gives the same bytes: quiet lead-in, hysteresis, interpolated edges, correlation,
// crosstalk, fusion or refusal; uncertainty after JCGM 100:2008, 5.1.2 and 6.2.1. Levels are Q8 counts, times Q16 samples.
#define MODULE "speed 1.1.0"
enum { CHANNELS = 16, PARAMETERS = 8, VALUES = 14, SAMPLES = 262144 };
enum { SPACING, SPACING_U, LOOP, RISE, FALL, MIN_SNR, MIN_SPEED, MAX_SPEED }; // parameters
enum { SPEED, SPEED_U, LEADING, TRAILING, BY_SHAPE, ON_FIRST, ON_LAST, LENGTH, LENGTH_U, DIRECTION, SNR, CORRELATION,
       PEAK_FIRST, PEAK_LAST }; // values
enum { VALID, MALFORMED_INPUT, SATURATION, CLIPPING, MISSING_EDGE, TWO_VEHICLES, LANE_CHANGE, REVERSAL, LOW_SNR,
       DEAD_CHANNEL, OUT_OF_RANGE, SPEEDS_DISAGREE, NO_VEHICLE }; // codes
enum { GAINS, SHIFT, STRETCH, NEIGHBOUR, REST, ROWS = 1023 + 2 * 24 + 1 }; // columns of the fit that finds crosstalk
#include "lacre.h"
typedef struct { i64 at, variance; } edge; // where a moving mean crosses a level
typedef struct { const short *x; edge rise, fall; // first, last: samples that are not quiet
                 i64 base, drift, noise, peak, quiet, low, high, on, off, first, last; } channel;
static channel list[CHANNELS], *head = list, *tail; // tail: the last channel
static i64 n, end, rate, half, strongest, unlikeness, tilt, squares[2]; // end: channels - 1; means over 2*half+1 samples
static i64 seen[ROWS + 2 * 24], column[REST + 1][ROWS], rows;
#define v io.out.value
#define p io.in.parameter
static i32 malformed(u32 length) { // the bounds keep all arithmetic within 64 bits
  n = io.in.samples; end = (i64)io.in.channels - 1; rate = io.in.rate; tail = list + end;
  return bad_header(length) || outside(end, 1, CHANNELS - 1) || n < 64 || outside(rate, 50000, 100000000) ||
    outside(p[SPACING], 100000, 20000000) || outside(p[SPACING_U], 0, p[SPACING] / 10) ||
    outside(p[LOOP], 100000, 20000000) || outside(p[RISE], 100, 900) || outside(p[FALL], 100, p[RISE]) ||
    outside(p[MIN_SNR], 1000, 1000000) || outside(p[MIN_SPEED], 100, 200000) || outside(p[MAX_SPEED], p[MIN_SPEED], 200000);
}
static i64 lead_in(void) { return max(16, min(256, n / 32 * 2)); } // samples of quiet, an even number
static i32 survey(void) { // baselines, noise and extremes; refuses what holds no vehicle, or half of one
  i64 lead = lead_in(), worst = 1LL << 62, best = 0, saturated = 0, hollow = strongest = 0;
  for (channel *c = head; c <= tail; c++) {
    const short *x = c->x = io.in.sample + (c - head) * n;
    i64 sum = 0, square = 0, begin = 0, out = 0;
    for (i32 i = 0; i < lead; i++) { sum += x[i]; square += x[i] * x[i]; out += x[n - 1 - i]; }
    i32 low = x[0], high = x[0]; for (i32 i = 0; i < lead / 2; i++) begin += x[i];
    for (i32 i = 0; i < n; i++) { low = x[i] < low ? x[i] : low; high = x[i] > high ? x[i] : high; }
    c->low = low; c->high = high; c->base = sum * 256 / lead; c->peak = c->high * 256 - c->base;
    c->noise = max(74, root((lead * square - sum * sum) / (lead - 1) * 65536 / lead)); // 74: rounding, 256/sqrt(12)
    c->quiet = max(c->peak / 16, 6 * c->noise); strongest = max(strongest, c->peak);
    i64 lean = magnitude(sum - 2 * begin) * 512 / lead, drift = (out - sum) * 256 / lead;
    c->drift = magnitude(drift) > c->noise ? drift : 0; saturated |= high == 32767 || low == -32768;
    hollow |= c->base - c->low * 256 > c->peak / 32 + 6 * c->noise || magnitude(drift) > c->peak / 32 + c->noise ||
      lean > max(c->peak / 128, c->noise * 3 / 2);
    i64 snr = max(0, c->peak) * 100 / c->noise; worst = min(worst, snr); best = max(best, snr);
  }
  v[SNR] = worst; v[PEAK_FIRST] = head->peak / 256; v[PEAK_LAST] = tail->peak / 256;
  if (saturated || hollow) return saturated ? SATURATION : MISSING_EDGE;
  if (best < p[MIN_SNR] / 4) return NO_VEHICLE;
  for (channel *c = head; c <= tail; c++) if (c->peak < strongest / 8) return DEAD_CHANNEL;
  return worst < p[MIN_SNR] ? LOW_SNR : VALID;
}
static i64 baseline(channel *c, i64 i) { return c->base + c->drift * (i - lead_in() / 2) / (n - lead_in()); }
static i32 cross(channel *c) { // the hysteresis, on single samples
  i32 rise = (c->base + c->peak * p[RISE] / 1000) >> 8, fall = (c->base + c->peak * p[FALL] / 1000) >> 8;
  i32 quiet = (c->base + c->quiet) >> 8, top = c->high - 2, first = -1, last = 0, on = 0, off = 0;
  i32 inside = 0, pulses = 0, run = 0, flat = 0;
  for (i32 i = 0; i < n; i++) {
    i32 x = c->x[i]; if (x > quiet) { last = i; if (first < 0) first = i; }
    if (!inside && x > rise) { inside = 1; if (pulses++ == 0) on = i; }
    if (inside && x <= fall) { inside = 0; off = i; }
    run = x < top ? 0 : run + 1; flat = run > flat ? run : flat;
  }
  c->first = first; c->last = last; c->on = on; c->off = off;
  if (!inside && flat >= max(8, (off - on) / 16)) return CLIPPING;
  if (inside || first < lead_in() || last >= n - 8) return MISSING_EDGE;
  return pulses > 1 ? TWO_VEHICLES : VALID;
}
static i32 refine(channel *c, edge *e, i64 near, i64 level, i64 sign) { // crossing of the moving mean near a raw one
  i64 width = 2 * half + 1, from = max(half, near - 4 * half - 8), to = min(n - 1 - half, near + 4 * half + 8), sum = 0;
  for (i64 i = from - half; i <= from + half && i < n; i++) sum += c->x[i];
  i64 before = sign * (sum * 256 - level * width);
  for (i64 i = from + 1; i <= to; i++) {
    sum += c->x[i + half] - c->x[i - half - 1];
    i64 after = sign * (sum * 256 - level * width), steep = after - before;
    if (before < 0 && after >= 0) {
      i64 ratio = min(c->noise * 4096 / steep, 1 << 22);
      e->at = (i - 1) * 65536 - before * 65536 / steep; e->variance = ratio * ratio * width; return 1;
    }
    before = after;
  }
  return 0;
}
static i32 edges(void) {
  i64 quiet = 63; // permille of every peak that only a vehicle exceeds, at least
  for (channel *c = head; c <= tail; c++) quiet = max(quiet, c->quiet * 1000 / c->peak + 1);
  if (quiet > p[FALL]) return LOW_SNR;
  for (channel *c = head; c <= tail; c++) { c->quiet = c->peak * quiet / 1000; i32 code = cross(c); if (code) return code; }
  half = magnitude(tail->on - head->on) / end / 16;
  for (channel *c = head; c <= tail; c++)
    if (!refine(c, &c->rise, c->on, baseline(c, c->on) + c->peak * p[RISE] / 1000, 1) ||
        !refine(c, &c->fall, c->off, baseline(c, c->off) + c->peak * p[FALL] / 1000, -1) ||
        c->fall.at <= c->rise.at) return MISSING_EDGE;
  return VALID;
}
static i64 product(i64 lag, i64 stride, i64 from, i64 to) { // sum of head[i] * tail[i+lag]; also their squares
  i64 both = 0, first = 0, second = 0, i = from, head_base = head->base >> 8, tail_base = tail->base >> 8;
  if (i + lag < 0) i += (stride - 1 - i - lag) / stride * stride;
  for (to = min(to, n - 1 - lag); i <= to; i += stride) {
    i64 x = head->x[i] - head_base, y = tail->x[i + lag] - tail_base;
    both += x * y; first += x * x; second += y * y;
  }
  squares[0] = first; squares[1] = second; return both;
}
static i64 gain(i64 sign, i64 lag, i64 stride, i64 from, i64 to) { // of the tail over the head, Q16
  i64 near = product(sign * (lag >> 16), stride, from, to), square = max(1, squares[0]); near = near * 65536 / square;
  i64 far = product(sign * ((lag >> 16) + 1), stride, from, to); square = max(1, squares[0]); far = far * 65536 / square;
  return near + ((far - near) * (lag & 65535) >> 16);
}
static i64 correlate(i64 sign, i64 delay, i64 loop, i64 shortest, i64 longest) { // delay of best likeness, or 0
  i64 first = head->first, last = head->last, middle = (first + last) / 2, extent = last - first, lag = 0, best = 0;
  i64 stride = max(max(1, min((delay >> 16) / 32, loop / 20)), extent / 1024), fine = loop < 20 ? stride : 2 * stride;
  i64 step = max(max(1, (head->off - head->on) / 16), n / 2048);
  for (i64 l = shortest; l <= min(longest, n); l += step) {
    i64 both = product(sign * l, max(1, extent / 24), first, last); if (both > best) { lag = l; best = both; }
  }
  for (i32 i = 0; i < 64; i++) { // walks to the top, halving the step
    i64 before = product(sign * (lag - step), stride, first, last);
    i64 after = product(sign * (lag + step), stride, first, last);
    best = product(sign * lag, stride, first, last);
    if (after > best || before > best) { lag += after > best ? step : -step; continue; }
    if (step != fine) { step = max(fine, step / 2); continue; }
    i64 bend = 2 * best - before - after, norm = max(1, root(squares[0] << 16) * root(squares[1] << 16) >> 16);
    i64 offset = (after - before) * 32768 / max(1, bend), top = best + (after - before) / 8 * offset / 32768;
    if (bend <= 0 || top < norm - norm / 16) return 0;
    i64 total = (lag << 16) + offset * step, front = gain(sign, total, stride, first, middle);
    i64 rear = gain(sign, total, stride, middle, last);
    unlikeness = max(0, (norm - top) * 1000000 / norm); tilt = magnitude(front - rear) * 2000 / max(1, front + rear);
    return total / end;
  }
  return 0;
}
static i64 mean(channel *c, i64 i, i64 width) { // of samples from i on, above the baseline
  i64 sum = 0; i = max(0, min(i, n - width)); for (i64 k = i; k < i + width; k++) sum += c->x[k];
  return sum * 256 / width - baseline(c, i);
}
static i64 dot(i64 *a, i64 *b) { i64 sum = 0; for (i64 j = 0; j < rows; j++) sum += a[j] * b[j]; return sum; }
static i64 crosstalk(i64 sign, i64 delay) { // share of a neighbour's signal and its deviation, ppm, by least squares
  i64 extent = head->last - head->first, width = max((delay >> 16) / 24, extent / 1024) + 1, share = 0, norm = 1;
  i64 apart = max(1, ((delay >> 16) + width / 2) / width), near = max(1, apart / 8), *at = seen + apart;
  i64 from = head->first - apart * width, lag = sign * ((delay * end + 32768) >> 16); rows = extent / width + 2 * apart + 1;
  for (i64 j = -apart; j < rows + apart; j++) at[j] = mean(head, from + j * width, width);
  for (i64 j = 0; j < rows; j++) {
    i64 slope = at[j + near] - at[j - near];
    column[GAINS][j] = at[j]; column[SHIFT][j] = slope; column[STRETCH][j] = slope * (2 * j - rows) / rows;
    column[NEIGHBOUR][j] = at[j + apart] - at[j - apart]; column[REST][j] = mean(tail, from + j * width + lag, width);
  }
  for (i32 a = 0; a < REST; a++) { // modified Gram-Schmidt
    norm = (dot(column[a], column[a]) >> 16) + 1;
    for (i32 b = a + 1; b <= REST; b++) {
      share = dot(column[a], column[b]) / norm;
      for (i64 j = 0; j < rows; j++) column[b][j] -= share * column[a][j] >> 16;
    }
  }
  return (magnitude(share) + root(dot(column[REST], column[REST]) / rows) * 256 / root(norm)) * 15625 / 1024;
}
static i64 ppm(i64 a, i64 delay) { return min(a * 1000000 / delay, 1000000); }
static i64 microseconds(i64 samples) { return samples * 1953125 / 128 / rate; }
static void uncertainty(i64 delay, i64 leak, i64 spread) { // expanded, k = 2; fuse.go explains the budget
  i64 variance = head->rise.variance + head->fall.variance + tail->rise.variance + tail->fall.variance;
  i64 spacing = p[SPACING_U] * 500000 / p[SPACING], noise = ppm(root(variance) * 4 / end, delay);
  i64 differ = ppm(spread / 4, delay), between = ppm(1966 / end, delay), loop = p[LOOP] / 1000, model = max(3000, leak / end);
  i64 relative = 2 * root(spacing * spacing + noise * noise + differ * differ + between * between + model * model);
  i64 travelled = v[SPEED] * ((v[ON_FIRST] + v[ON_LAST]) / 2) / 3600000, share = travelled * relative / 1000000;
  v[SPEED_U] = v[SPEED] * relative / 1000000 + 1; v[LENGTH] = travelled - loop;
  v[LENGTH_U] = root(share * share + loop * loop * 4 / 9);
}
static i32 fuse(void) { // three speeds become one, or a refusal
  i64 leading = (tail->rise.at - head->rise.at) / end, trailing = (tail->fall.at - head->fall.at) / end, sign = 1;
  v[ON_FIRST] = microseconds(head->fall.at - head->rise.at); v[ON_LAST] = microseconds(tail->fall.at - tail->rise.at);
  if (leading < 0) { sign = -1; leading = -leading; trailing = -trailing; }
  if (leading <= 0 || trailing <= 0) return REVERSAL;
  i64 scale = p[SPACING] * rate / 78125 * 18432, both = (leading + trailing) / 2; // km/h, 10^-3 = scale / delay
  i64 slowest = p[MIN_SPEED] * 18 / 5, fastest = p[MAX_SPEED] * 18 / 5;
  v[DIRECTION] = sign; v[LEADING] = scale / leading; v[TRAILING] = scale / trailing;
  if (outside(scale / both, slowest, fastest)) return OUT_OF_RANGE;
  i64 loop = (both * (p[LOOP] / 100) / (p[SPACING] / 100) >> 16) + 1; // effective length, in samples
  for (channel *c = head; c <= tail; c++) if (max(c->on - c->first, c->last - c->off) > 2 * loop + 2) return TWO_VEHICLES;
  for (channel *c = head; c <= tail; c++) if (c->peak < strongest * 5 / 8) return LANE_CHANGE;
  i64 shape = correlate(sign, both, loop, scale / fastest * end >> 16, scale / slowest * end >> 16);
  if (outside(shape, both / 2, both * 2)) return SPEEDS_DISAGREE;
  v[BY_SHAPE] = scale / shape; v[CORRELATION] = 1000 - unlikeness / 1000;
  i64 delay = (both + shape) / 2, speed = max(1, scale / delay), apart = magnitude(leading - trailing);
  i64 permissible = delay * max(3000, speed * 3 / 100) / speed; // the MPE, as a difference of delays
  if (apart > min(permissible, delay * 8 / 100 + 6554)) return SPEEDS_DISAGREE;
  i64 stretch = apart * end >> 8, whole = (both >> 16) + 1;
  i64 explained = 100 + 40000 / (whole * whole) + 30000000000 / (v[SNR] * v[SNR]) + // ppm, by interpolation, noise,
                  stretch * stretch / loop * 1500000 / (head->fall.at - head->rise.at); // and acceleration
  if (unlikeness > explained || tilt > 12 + 40000 / v[SNR]) return LANE_CHANGE;
  i64 leak = crosstalk(sign, delay); // at most 1 %; edges and shape agree to 1.5 % and a tenth of a sample
  if (leak > 10000 || magnitude(shape - both) > delay * 3 / 200 + 6554) return SPEEDS_DISAGREE;
  for (channel *c = head; c < tail; c++)
    if (magnitude(sign * (c[1].rise.at - c->rise.at) - leading) > permissible ||
        magnitude(sign * (c[1].fall.at - c->fall.at) - trailing) > permissible) return SPEEDS_DISAGREE;
  if (outside(speed, slowest, fastest)) return OUT_OF_RANGE;
  v[SPEED] = speed; uncertainty(delay, leak, max(max(leading, trailing), shape) - min(min(leading, trailing), shape));
  return VALID;
}
static i32 run(u32 length) {
  i32 code = malformed(length) ? MALFORMED_INPUT : survey(); code = code ? code : edges(); return code ? code : fuse();
}
