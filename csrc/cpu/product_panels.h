// The inner part of a float32 matrix product: rows of A against a panel of B, whose columns fit the registers.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// Rows of A and columns of B whose products registers hold, at the processor's SIMD level.
struct PanelSizes {
  int64_t rows, columns;
};
PanelSizes panelSizes();

// c [rows, columns] = a b, added to `offset` (a row, or null: zeros) or, if `accumulate`, to what is in c.
struct PanelProduct {
  // Rows `aRow` apart, or as packGroups left them, `aGroup` apart.
  const float* a;
  bool grouped;
  int64_t aRow, aGroup;
  const float* b;  // `depth` rows of panelSizes().columns
  int64_t rows, columns, depth;
  const float* offset;
  float* c;
  int64_t cRow;
  bool accumulate;
};
void panelProduct(const PanelProduct& product);

// Rows [0, depth) of b's columns [0, columns) as a panel; b's rows are `stride` apart.
void packPanel(const float* b, int64_t stride, int64_t depth, int64_t columns, float* panel);
// The same of bᵀ: its columns are `stride` apart.
void packPanelTransposed(const float* b, int64_t stride, int64_t depth, int64_t columns, float* panel);

// Columns [0, rows) of aᵀ's rows [0, depth), as groups of panelSizes().rows rows, `group` floats apart, each in order
// of depth; the last one is filled up with zeros. aᵀ's rows are `stride` apart.
void packGroups(const float* a, int64_t stride, int64_t depth, int64_t rows, float* to, int64_t group);

}  // namespace flowmap::cpu
