// The names of the elementwise operations and reductions, shared by every backend.
#pragma once

namespace flowmap {

enum class UnaryOp {
  Neg,
  Abs,
  Sign,
  Square,
  Sqrt,
  Rsqrt,
  Reciprocal,
  Exp,
  Expm1,
  Log,
  Log1p,
  Sin,
  Cos,
  Tanh,
  Sigmoid,
  Floor,
  LogicalNot
};
enum class BinaryOp { Add, Sub, Mul, Div, Pow, Maximum, Minimum };
enum class CompareOp { Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual };
enum class ReduceOp { Sum, Mean, Max, Min };
enum class ArgReduceOp { ArgMax, ArgMin };
// Activations with a fused tangent and backward; gelu is the tanh form.
enum class ActivationOp { Gelu, Silu };

}  // namespace flowmap
