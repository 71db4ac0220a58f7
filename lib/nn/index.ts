// Modules, as `nn.*`.
export { DiT, type DiTOptions, ditPresets, ditShapes } from './dit';
export { Attention, DiTBlock, Mlp, type TokenNorm } from './ditParts';
export { ImmDiT, type ImmDiTOptions, immDitPresets, immDitShapes } from './immDit';
export { spectralNorm, spectralNormal, xavierUniform } from './init';
export { Embedding, Linear, type LinearOptions, RMSNorm, TimestepEmbedding, type TimestepOptions } from './layers';
export { type Constant, functionalCall, type LoadReport, Module } from './module';
export type { DiTCondition, PatchTransformer, PatchTransformerOptions } from './patchTransformer';
