// Package forensic computes what the law adds to a measured value: the maximum
// permissible error and the considered value of a national table.
//
// Sources: proto/lacre/record/v1/statement.proto, NationalTable; metrology.md,
// "Rules for speed meters" (CONTRAN 798/2020 and Inmetro Portaria 158/2022 by
// secondary sources: considered = measured - permissible error, 150 -> 139.5).
//
// Invariants:
//   - Whole numbers only, without a float and without an overflow, so a
//     considered value is the same on every machine, for ever.
//   - A considered value is a multiple of the table's step, never negative and
//     never above the measured value.
package forensic
