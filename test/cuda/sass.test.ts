// The counts of instructions that npm run cuda:budgets takes from a disassembler's listing, on listings written here: a
// toolkit need not have a disassembler.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './support/programs';

/** What the expression is, with everything scripts/sass.mjs exports in scope and `given` as input. */
function evaluate(expression: string, given: unknown): unknown {
  const script = `import * as sass from ${JSON.stringify(join(root, 'scripts', 'sass.mjs'))};
    const given = JSON.parse(process.env.GIVEN);
    console.log(JSON.stringify(${expression}));`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, GIVEN: JSON.stringify(given) },
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

const listing = `
Fatbin elf code:
================
arch = sm_90a

	code for sm_90a
		Function : _Z5firstPf
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                        /* 0x00000a00ff017b82 */
                                                                                 /* 0x000fe20000000800 */
        /*0010*/                   UTMALDG.4D [UR8], [UR4] ;                     /* 0x00000008040075b4 */
        /*0020*/              @!P0 UTMALDG.4D.MULTICAST [UR8], [UR4], UR9 ;      /* 0x00000008040075b4 */
        /*0030*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR12], !UPT ; /* 0x01e00000001879f0 */
        /*0040*/             @UP1 HGMMA.64x128x16.F32.BF16 R24, R4, gdesc[UR12], R24, gsb0 ; /* 0x01e0 */
        /*0050*/                   STL.64 [R1], R2 ;                             /* 0x0000000201007387 */
		..........
		Function : _Z6secondPf
        /*0000*/                   UTMASTG.4D [UR8], [UR4] ;                     /* 0x00000008040073b5 */
        /*0010*/                   LDL R3, [R1] ;                                /* 0x0000000001037983 */
        /*0020*/                   LDG.E R3, desc[UR4][R2.64] ;                  /* 0x0000000402037981 */
`;

it('counts products, tensor copies and local memory kernel by kernel', () => {
  expect(evaluate('[...sass.countInstructions(given)]', listing)).toEqual([
    ['_Z5firstPf', { products: 2, copies: 2, local: 1 }],
    ['_Z6secondPf', { products: 0, copies: 0, local: 1 }],
  ]);
});

it('says what is wrong with a kernel', () => {
  const judge = (name: string, products: number, copies: number, local = 0, expected?: number[]) =>
    evaluate('sass.judgeInstructions(...given)', [name, { products, copies, local }, expected]);
  const kernel = 'a_hopper.cu: attentionDqHopperKernel<float>';
  expect(judge(kernel, 4, 2)).toEqual([]);
  expect(judge(kernel, 4, 2, 0, [4, 2])).toEqual([]);
  expect(judge('a_hopper.cu: finishFusedHopperKernel<float>', 0, 0)).toEqual([]);
  expect(judge(kernel, 0, 0, 3)).toEqual(['3 accesses to local memory', 'no product of wgmma', 'no tensor copy']);
  expect(judge(kernel, 5, 2, 0, [4, 2])).toEqual(['5 products and 2 tensor copies, before 4 and 2']);
});
