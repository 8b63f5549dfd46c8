"""The considered value of a measured one under a national table (docs/formats.md, "National tables")."""
from wire import need

MILLION, LARGEST = 10**6, 10**12
DOWN, HALF_UP, UP = 1, 2, 3


def check(bands, rounding, step):
    """Refuses what has not a considered value for every measured one."""
    need(1 <= len(bands) <= 16 and rounding in (DOWN, HALF_UP, UP) and 1 <= step <= LARGEST, "no table")
    ends = [band["up_to"] for band in bands]
    need(ends[-1] == 0 and ends[:-1] == sorted(set(ends[:-1])) and all(0 < end <= LARGEST for end in ends[:-1]), "bands do not ascend")
    for band in bands:
        need((band["absolute"] == 0) != (band["relative_ppm"] == 0), "a band without exactly one error")
        need(0 <= band["absolute"] <= LARGEST and band["relative_ppm"] <= MILLION, "an error beyond its bound")


def considered(bands, rounding, step, measured):
    """The permissible error in millionths, and the considered value, both in the table's unit and scale."""
    check(bands, rounding, step)
    need(0 <= measured <= LARGEST, "a table holds for 0 to 10^12, not for %d" % measured)
    band = next((band for band in bands[:-1] if measured <= band["up_to"]), bands[-1])
    error = band["absolute"] * MILLION or measured * band["relative_ppm"]
    add = {DOWN: 0, HALF_UP: step * MILLION // 2, UP: step * MILLION - 1}[rounding]
    value = (max(0, measured * MILLION - error) + add) // (step * MILLION) * step
    return error, value - step if value > measured else value
