// Modules, as `nn.*`.
export { Attention, DiT, DiTBlock, type DiTCondition, type DiTOptions, ditPresets, Mlp } from './dit';
export { spectralNorm, spectralNormal, xavierUniform } from './init';
export { Embedding, Linear, type LinearOptions, RMSNorm, TimestepEmbedding, type TimestepOptions } from './layers';
export { functionalCall, type LoadReport, Module } from './module';
