// Everything a program imports.

// autograd
export { checkpoint } from './autograd/checkpoint';
export { jvp } from './autograd/forward';
export { type GradcheckOptions, gradcheck } from './autograd/gradcheck';
export { type Apply, defineOp as customOp, type OpDefinition, type VjpContext } from './autograd/op';
export { type GradOptions, grad, type Pullback, stopGradient, valueAndGrad, vjp } from './autograd/reverse';
export { noGrad, Tape } from './autograd/tape';
// tensors
export * from './create';
export {
  type CublasFeatures,
  type CudaDevice,
  type CudaFeatures,
  cublasFeatures,
  cudaFeatures,
  type Features,
  features,
  setThreads,
  threads,
} from './device';
export type { DType, TypedArray } from './dtype';
export * from './errors';
export { type CapturedStep, captureGraph } from './graph';
// io
export { type Checkpoint, type JsonValue, loadCheckpoint, saveCheckpoint } from './io/checkpoint';
export { encodePng, type GridOptions, type Image, imageGrid } from './io/png';
// io
export {
  type LoadOptions,
  loadSafetensors,
  readSafetensorsHeader,
  type SafetensorsEntry,
  type SafetensorsHeader,
  saveSafetensors,
} from './io/safetensors';
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
// nn
export * as nn from './nn';
export { functionalCall } from './nn/module';
// objectives
export { checkFinite } from './objectives/checkFinite';
export {
  type DriftingBatch,
  type DriftingDraws,
  type DriftingFieldOptions,
  type DriftingKernel,
  type DriftingOptions,
  type DriftingResult,
  drawDriftingBatch,
  driftingField,
  driftingLoss,
} from './objectives/drifting';
export { type ImmOptions, type ImmResult, immCases, immLoss } from './objectives/imm';
export { type DrawnImmBatch, drawImmBatch, type ImmBatch, type ImmDraws } from './objectives/immBatch';
export {
  type ImmCoefficients,
  type ImmForm,
  type ImmMapping,
  type ImmMappingOptions,
  type ImmTimes,
  immMapping,
  immPresets,
} from './objectives/immMapping';
export { evaluate as evaluateImm, type ImmEvaluateOptions, type ImmNetwork } from './objectives/immNetwork';
export {
  drawMeanFlowBatch,
  type MeanFlowBatch,
  type MeanFlowDraws,
  type MeanFlowOptions,
  type MeanFlowResult,
  meanFlowLoss,
} from './objectives/meanFlow';
export { type Schedule, type ScheduleName, schedules } from './objectives/schedules';
export { type LogitNormal, logitNormal, type TvmTimes, type TvmTimesOptions, tvmTimes } from './objectives/times';
export {
  type FlowMapNetwork,
  flowMatchingLoss,
  type TvmOptions,
  type TvmResult,
  tvmLoss,
} from './objectives/tvm';
export {
  drawFlowMatchingBatch,
  drawTvmBatch,
  type FlowMatchingBatch,
  type FlowMatchingOptions,
  type TvmBatch,
  type TvmDraws,
} from './objectives/tvmBatch';
// ops
export { gelu, silu } from './ops/activation';
export { type AttentionLayout, type AttentionOptions, type AttentionQkNorm, attention } from './ops/attention';
export * from './ops/compare';
export * from './ops/elementwise';
export * from './ops/gather';
export { type LayerNormOptions, layerNorm } from './ops/layerNorm';
export { linear, type MatmulPrecision, matmul, setMatmulPrecision } from './ops/matmul';
export { type MmdKernel, type MmdOptions, mmd } from './ops/mmd';
export {
  gatedResidual,
  qkNorm,
  type RmsNormOptions,
  rmsNorm,
  type SplitQkvOptions,
  softmax,
  splitQkv,
} from './ops/norm';
export { layerNormModulate, rmsNormModulate } from './ops/normModulate';
export * from './ops/reduce';
export * from './ops/shape';
// optim
export { AdamW, type AdamWOptions } from './optim/adamw';
export { clipByGlobalNorm, globalNorm } from './optim/clip';
export { Ema } from './optim/ema';
export { copyInto } from './optim/inPlace';
export type { MomentOptimizer, MomentOptions, OptimizerState } from './optim/moments';
export { RAdam, type RAdamOptions } from './optim/radam';
export { type CosineOptions, cosineSchedule } from './optim/schedule';
export * from './random';
// samplers
export {
  type EulerSamplerOptions,
  type FlowMapSamplerOptions,
  sampleEuler,
  sampleFlowMap,
} from './samplers/flowMap';
export {
  type ImmSamples,
  type PushforwardOptions,
  type RestartOptions,
  samplePushforward,
  sampleRestart,
} from './samplers/imm';
export { type TimeGridOptions, timeGrid } from './samplers/timeGrid';
export { isTensor, Tensor } from './tensor';
// training
export {
  type ConsistencyStage,
  type DriftingStage,
  type FlowMatchingStage,
  type ImmStage,
  type MeanFlowStage,
  type Stage,
  type TrainConfig,
  type TvmStage,
  validateConfig,
} from './training/config';
export { type Dataset, type StepMetrics, type TrainOptions, type TrainResult, train } from './training/train';
export type { TensorTree } from './tree';
