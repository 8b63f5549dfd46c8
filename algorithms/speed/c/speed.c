// Speed of a vehicle over N >= 2 loops: the legally relevant software. Its Go twin (../measure.go, edges, correlate, fuse,
// crosstalk) explains every step and gives the same bytes: quiet lead-in, hysteresis, interpolated edges, correlation,
// crosstalk, fusion or refusal; uncertainty after JCGM 100:2008, 5.1.2 and 6.2.1. Levels are Q8 counts, times Q16 samples.
#define MODULE "speed 1.2.0"
enum { CHANNELS = 16, PARAMETERS = 8, VALUES = 14, SAMPLES = 262144 };
enum { SPACING, SPACING_U, LOOP, RISE, FALL, MIN_SNR, MIN_SPEED, MAX_SPEED }; // parameters
enum { SPEED, SPEED_U, LEADING, TRAILING, BY_SHAPE, ON_FIRST, ON_LAST, LENGTH, LENGTH_U, DIRECTION, SNR, CORRELATION,
       PEAK_FIRST, PEAK_LAST }; // values
enum { VALID, MALFORMED_INPUT, SATURATION, CLIPPING, MISSING_EDGE, TWO_VEHICLES, LANE_CHANGE, REVERSAL, LOW_SNR,
       DEAD_CHANNEL, OUT_OF_RANGE, SPEEDS_DISAGREE, NO_VEHICLE }; // codes
enum { GAINS, SHIFT, STRETCH, NEIGHBOUR, REST, COLUMNS, ROWS = 1023 + 2 * 24 + 1, // columns of the fit that finds crosstalk
       BOTH = 0, HEAD, TAIL }; // what a product is of
#include "lacre.h"
typedef struct { i64 at, variance; } edge; // where a moving mean crosses a level
typedef struct { const short *x; edge rise, fall; // first, last: samples that are not quiet
                 i64 base, drift, noise, peak, quiet, low, high, on, off, first, last; } channel;
static channel list[CHANNELS], *head = list, *tail; // tail: the last channel
static i64 n, end, rate, half, strongest, unlikeness, tilt, rows; // end: channels - 1; means over 2*half+1 samples
static struct { i64 seen, column[COLUMNS]; } row[ROWS + 2 * 24]; static i64 share[COLUMNS][COLUMNS]; // Q16
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
    const short *x = c->x = io.in.sample + (c - head) * n; i64 sum = 0, square = 0, begin = 0, out = 0;
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
static i64 baseline(channel *c, i64 i) { return c->drift ? c->base + c->drift * (i - lead_in() / 2) / (n - lead_in()) : c->base; }
static i32 clipped(channel *c, i64 least) { // so many samples in a row at the very top
  for (i64 i = least - 1, k; i < n; i = k + least) { // no such row holds k
    for (k = i; k > i - least && c->x[k] >= c->high - 2;) k--; if (k == i - least) return 1;
  }
  return 0;
}
static i32 cross(channel *c) { // the hysteresis, on single samples; rise >= fall >= quiet, which edges() has seen to
  i32 rise = (c->base + c->peak * p[RISE] / 1000) >> 8, fall = (c->base + c->peak * p[FALL] / 1000) >> 8;
  i32 quiet = (c->base + c->quiet) >> 8, pulses = 0;
  const short *x = c->x, *at = x, *stop = x + n, *last = stop - 1;
  while (at < stop && *at <= quiet) at++; while (last > at && *last <= quiet) last--;
  c->first = at < stop ? at - x : -1; c->last = at < stop ? last - x : 0; c->on = c->off = 0;
  for (;; c->off = at - x) {
    while (at <= last && *at <= rise) at++;
    if (at > last) break; if (pulses++ == 0) c->on = at - x;
    while (at < stop && *at > fall) at++;
  }
  if (c->off < n && clipped(c, max(8, (c->off - c->on) / 16))) return CLIPPING;
  return c->off == n || c->first < lead_in() || c->last >= n - 8 ? MISSING_EDGE : pulses > 1 ? TWO_VEHICLES : VALID;
}
static i32 refine(channel *c, edge *e, i64 near, i64 level, i64 sign) { // crossing of the moving mean near a raw one
  i64 width = 2 * half + 1, from = max(half, near - 4 * half - 8), to = min(n - 1 - half, near + 4 * half + 8), sum = 0;
  for (i64 i = from - half; i <= from + half && i < n; i++) sum += c->x[i];
  i64 before = sign * (sum * 256 - level * width);
  for (i64 i = from + 1, after; i <= to; i++, before = after) {
    sum += c->x[i + half] - c->x[i - half - 1];
    after = sign * (sum * 256 - level * width); i64 steep = after - before;
    if (before < 0 && after >= 0) {
      i64 ratio = min(c->noise * 4096 / steep, 1 << 22);
      e->at = (i - 1) * 65536 - before * 65536 / steep; e->variance = ratio * ratio * width; return 1;
    }
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
static i64 product(i32 of, i64 lag, i64 stride, i64 from, i64 to) { // of head and tail[i+lag], or the squares of one
  i64 a = head->base >> 8, b = tail->base >> 8; if (from + lag < 0) from += (stride - 1 - from - lag) / stride * stride;
  const short *x = head->x + from, *y = tail->x + from + lag; i64 left = min(to, n - 1 - lag) - from;
  if (of == HEAD) { y = x; b = a; } if (of == TAIL) { x = y; a = b; }
  return products(x, a, y, b, left, stride);
}
#define AT(of, lag) product(of, sign * (lag), stride, first, last)
static i64 gain(i64 sign, i64 lag, i64 stride, i64 first, i64 last) { // of the tail over the head, Q16
  i64 near = AT(BOTH, lag >> 16) * 65536 / max(1, AT(HEAD, lag >> 16));
  i64 far = AT(BOTH, (lag >> 16) + 1) * 65536 / max(1, AT(HEAD, (lag >> 16) + 1));
  return near + ((far - near) * (lag & 65535) >> 16);
}
static i64 correlate(i64 sign, i64 delay, i64 loop, i64 shortest, i64 longest) { // delay of best likeness, or 0
  i64 first = head->first, last = head->last, middle = (first + last) / 2, extent = last - first, lag = 0, best = 0;
  i64 stride = max(max(1, min((delay >> 16) / 32, loop / 20)), extent / 1024), fine = loop < 20 ? stride : 2 * stride;
  i64 step = max(max(1, (head->off - head->on) / 16), n / 2048);
  for (i64 l = shortest, both; l <= min(longest, n); l += step)
    if ((both = product(BOTH, sign * l, max(1, extent / 24), first, last)) > best) { lag = l; best = both; }
  i64 before = AT(BOTH, lag - step), after = AT(BOTH, lag + step); best = AT(BOTH, lag);
  for (i32 i = 0; i < 64; i++) { // walks to the top, halving the step
    if (after > best) { before = best; best = after; lag += step; after = AT(BOTH, lag + step); continue; }
    if (before > best) { after = best; best = before; lag -= step; before = AT(BOTH, lag - step); continue; }
    if (step != fine) { step = max(fine, step / 2); before = AT(BOTH, lag - step); after = AT(BOTH, lag + step); continue; }
    i64 bend = 2 * best - before - after, norm = max(1, root(AT(HEAD, lag) << 16) * root(AT(TAIL, lag) << 16) >> 16);
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
static inline __attribute__((always_inline)) i64 fit(i64 a) { // finds column a's shares in those behind it; gives its square
  i64 sum[COLUMNS] = {0}, c[COLUMNS];
  for (i64 j = 0; j < rows; j++) {
    for (i64 b = 0; b < COLUMNS; b++) c[b] = row[j].column[b];
    for (i64 k = 0; k < a; k++) for (i64 b = k + 1; b < COLUMNS; b++) c[b] -= share[k][b] * c[k] >> 16;
    for (i64 b = a; b < COLUMNS; b++) sum[b] += c[a] * c[b];
  }
  for (i64 b = a + 1; b < COLUMNS; b++) share[a][b] = sum[b] / ((sum[a] >> 16) + 1);
  return sum[a];
}
static i64 crosstalk(i64 sign, i64 delay) { // share of a neighbour's signal and its deviation, ppm, by least squares
  i64 extent = head->last - head->first, width = max((delay >> 16) / 24, extent / 1024) + 1;
  i64 apart = max(1, ((delay >> 16) + width / 2) / width), near = max(1, apart / 8);
  i64 from = head->first - apart * width, lag = sign * ((delay * end + 32768) >> 16); rows = extent / width + 2 * apart + 1;
  for (i64 j = 0; j < rows + 2 * apart; j++) row[j].seen = mean(head, from + (j - apart) * width, width);
  for (i64 j = 0; j < rows; j++) {
    i64 i = j + apart, slope = row[i + near].seen - row[i - near].seen, *column = row[j].column;
    column[GAINS] = row[i].seen; column[SHIFT] = slope; column[STRETCH] = slope * (2 * j - rows) / rows;
    column[NEIGHBOUR] = row[i + apart].seen - row[i - apart].seen; column[REST] = mean(tail, from + j * width + lag, width);
  }
  fit(GAINS); fit(SHIFT); fit(STRETCH); i64 norm = (fit(NEIGHBOUR) >> 16) + 1, rest = fit(REST); // modified Gram-Schmidt
  return (magnitude(share[NEIGHBOUR][REST]) + root(rest / rows) * 256 / root(norm)) * 15625 / 1024;
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
  if (leading < 0) { sign = -1; leading = -leading; trailing = -trailing; } if (leading <= 0 || trailing <= 0) return REVERSAL;
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
static i32 run(u32 length) { return malformed(length) ? MALFORMED_INPUT : survey() ?: edges() ?: fuse(); }
