// Everything a program imports.

export { checkpoint } from './autograd/checkpoint';
export { jvp } from './autograd/forward';
export { type GradcheckOptions, gradcheck } from './autograd/gradcheck';
// autograd
export { defineOp as customOp, type OpDefinition, type VjpContext } from './autograd/op';
export { type GradOptions, grad, type Pullback, stopGradient, valueAndGrad, vjp } from './autograd/reverse';
export { noGrad, Tape } from './autograd/tape';
export * from './create';
export type { DType, TypedArray } from './dtype';
export * from './errors';
export {
  dispose,
  emptyCache,
  keep,
  type MemoryReport,
  memory,
  resetPeakMemory,
  setMemoryLimit,
  synchronize,
  synchronizeSync,
  tidy,
} from './memory';
// ops
export * from './ops/compare';
export * from './ops/elementwise';
export * from './ops/gather';
export * from './ops/reduce';
export * from './ops/shape';
export { isTensor, Tensor } from './tensor';
