// The ESM face of the CommonJS core: names only, so that there is one Tensor class and one tape however it is imported.
export * from './index.js';
