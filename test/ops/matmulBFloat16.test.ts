// Products of bfloat16 by the cores' own instructions and, as on machines that have none, through float32: both ways err as roundings
// of the results do, and no more.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { features } from '../../lib';
import { multiplyAsBFloat16 } from '../support/bfloat16Products';

const script = join(__dirname, '..', 'support', 'bfloat16Products.ts');
const root = join(__dirname, '..', '..');

/** The results of the same program where oneDNN may use no more than `isa`. */
function withIsa(isa: string): { bfloat16: boolean; errors: Record<string, number> } {
  const env = { ...process.env, ONEDNN_MAX_CPU_ISA: isa };
  const code = `console.log(JSON.stringify(require(${JSON.stringify(script)}).multiplyAsBFloat16()))`;
  const options = { cwd: root, env, encoding: 'utf8' } as const;
  return JSON.parse(execFileSync(process.execPath, ['-r', './scripts/typescript.cjs', '-e', code], options));
}

describe('products of bfloat16 on the CPU', () => {
  it('err no more than rounding does, by instructions or not', () => {
    const [here, widened] = [multiplyAsBFloat16(), withIsa('AVX2')];
    expect(here.bfloat16).toBe(features().bfloat16);
    expect(widened.bfloat16).toBe(false);
    for (const [name, error] of [...Object.entries(here.errors), ...Object.entries(widened.errors)]) {
      if (!(error < 2 ** -8)) throw new Error(`${name} is off by ${error}`);
    }
    expect(Object.keys(widened.errors)).toEqual(Object.keys(here.errors));
  });
});
