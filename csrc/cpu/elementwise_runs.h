// Elementwise operations on contiguous runs, vectorised per SIMD level. An operand's step is 1, or 0 for one value that
// is used throughout. A value's result does not depend on where in the run it stands.
#pragma once

#include <cstdint>

#include "core/elementwise_ops.h"

namespace flowmap::cpu {

void unaryRun(UnaryOp op, float* y, const float* x, int64_t n);
void unaryRun(UnaryOp op, double* y, const double* x, int64_t n);
void unaryRun(UnaryOp op, int32_t* y, const int32_t* x, int64_t n);  // neg, abs, sign, square
void logicalNotRun(uint8_t* y, const uint8_t* x, int64_t n);

void binaryRun(BinaryOp op, float* y, const float* a, int aStep, const float* b, int bStep, int64_t n);
void binaryRun(BinaryOp op, double* y, const double* a, int aStep, const double* b, int bStep, int64_t n);
void binaryRun(BinaryOp op, int32_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n);

void compareRun(CompareOp op, uint8_t* y, const float* a, int aStep, const float* b, int bStep, int64_t n);
void compareRun(CompareOp op, uint8_t* y, const double* a, int aStep, const double* b, int bStep, int64_t n);
void compareRun(CompareOp op, uint8_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n);
void compareRun(CompareOp op, uint8_t* y, const uint8_t* a, int aStep, const uint8_t* b, int bStep, int64_t n);

void whereRun(uint8_t* y, const uint8_t* condition, int step, const uint8_t* a, int aStep, const uint8_t* b, int bStep,
              int64_t n);
void whereRun(uint16_t* y, const uint8_t* condition, int step, const uint16_t* a, int aStep, const uint16_t* b,
              int bStep, int64_t n);
void whereRun(uint32_t* y, const uint8_t* condition, int step, const uint32_t* a, int aStep, const uint32_t* b,
              int bStep, int64_t n);
void whereRun(uint64_t* y, const uint8_t* condition, int step, const uint64_t* a, int aStep, const uint64_t* b,
              int bStep, int64_t n);

void clampRun(float* y, const float* x, float low, float high, int64_t n);
void clampRun(double* y, const double* x, double low, double high, int64_t n);
void clampRun(int32_t* y, const int32_t* x, int32_t low, int32_t high, int64_t n);

}  // namespace flowmap::cpu
