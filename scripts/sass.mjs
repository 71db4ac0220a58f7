// What a kernel is made of in the end: instructions counted in the disassembler's listing of a cubin.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** cuobjdump, which CUDA toolkits have beside nvcc, or CUOBJDUMP's; undefined where there is none. */
export function findDisassembler(nvcc) {
  return [process.env.CUOBJDUMP, join(dirname(nvcc), 'cuobjdump')].find((path) => path && existsSync(path));
}

/** Products of wgmma, tensor copies into shared memory, and accesses to local memory, where registers spill. */
export const counted = { products: ['HGMMA'], copies: ['UTMALDG'], local: ['LDL', 'STL'] };

/** From `cuobjdump -sass`: for each kernel, by its mangled name, how many of what `counted` names. */
export function countInstructions(listing) {
  const kernels = new Map();
  let counts;
  for (const line of listing.split('\n')) {
    const name = /^\s*Function : (\S+)/.exec(line)?.[1];
    if (name) {
      counts = Object.fromEntries(Object.keys(counted).map((kind) => [kind, 0]));
      kernels.set(name, counts);
    }
    // An address, perhaps a predicate, the instruction with its modifiers.
    const instruction = /^\s*\/\*[0-9a-f]+\*\/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)/.exec(line)?.[1];
    if (!counts || !instruction) continue;
    for (const [kind, names] of Object.entries(counted)) if (names.includes(instruction)) counts[kind]++;
  }
  return kernels;
}

/** What is wrong with a kernel for Hopper; `expected`: [products, copies] as counted before, if they were. */
export function judgeInstructions(name, { products, copies, local }, expected) {
  const problems = [];
  if (local > 0) problems.push(`${local} accesses to local memory`);
  // The others finish what these leave.
  if (/: attention\w+HopperKernel\b/.test(name)) {
    if (products === 0) problems.push('no product of wgmma');
    if (copies === 0) problems.push('no tensor copy');
  }
  if (expected && (products !== expected[0] || copies !== expected[1])) {
    problems.push(`${products} products and ${copies} tensor copies, before ${expected[0]} and ${expected[1]}`);
  }
  return problems;
}
