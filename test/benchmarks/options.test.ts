// What the benchmarks can be asked for: options, presets, families; and what they refuse.
import { familiesFor } from '../../benchmarks/cpu';
import { type BenchmarkDType, dtypeOf } from '../../benchmarks/gpu/group';
import { groupsOf } from '../../benchmarks/gpu/groups';
import { chosenGroups, gpuFamilies } from '../../benchmarks/gpu/measure';
import { helpText, readRequest } from '../../benchmarks/options';
import { attentionOnCpu, isCapped, presetNames, presets, rowsOnCpu } from '../../benchmarks/presets';

const asked = (line: string) => readRequest(line.split(' ').filter((word) => word !== ''));

describe('the command line', () => {
  it('reads families and options', () => {
    expect(asked('norm attention --threads 3 --dtype bfloat16 --shapes wan --json a.json')).toMatchObject({
      families: ['norm', 'attention'],
      device: 'cpu',
      threads: 3,
      dtype: 'bfloat16',
      shapes: 'wan',
      peers: false,
      json: 'a.json',
    });
    expect(asked('')).toMatchObject({ families: [], device: 'cpu', peers: false });
    expect(asked('--device cuda --only norms --short')).toMatchObject({ device: 'cuda', only: 'norms', short: true });
    expect(asked('--device cuda --triton tvm=/a,rcm=b/c')).toMatchObject({ triton: { tvm: '/a', rcm: 'b/c' } });
    expect(asked('norm --help')).toBeNull();
  });

  it.each([
    ['--shape wan', /unknown option '--shape', expected one of --device, .*--shapes/],
    ['--shapes sd3', /--shapes must be one of tvm-table, dit-xl-2, wan, digits, got 'sd3'/],
    ['--shapes toString', /--shapes must be one of/],
    ['--dtype int32', /--dtype must be one of float32, float64, bfloat16, float16, got 'int32'/],
    ['--device cuda:1', /--device must be one of cpu, cuda, got 'cuda:1'/],
    ['--threads 0', /--threads must be a whole number from 1, got '0'/],
    ['--threads two', /got 'two'/],
    ['--json', /--json needs a value: --json <file.json>/],
    ['--json --peers', /--json needs a value/],
    ['--peers=yes', /--peers takes no value/],
    ['--json a --json b', /--json is given twice/],
    ['--only norms', /--only needs --device cuda/],
    ['--triton tvm=/a', /--triton needs --device cuda/],
    [
      '--device cuda --triton tvm',
      /--triton takes name=folder,… with names among tvm, jvp_flash_attention, rcm, got 'tvm'/,
    ],
    ['--device cuda --triton fa3=/a', /got 'fa3=\/a'/],
    ['--device cuda --triton tvm=/a,tvm=/b', /got 'tvm=\/a,tvm=\/b'/],
    ['--device cuda --threads 2', /--threads is for the CPU/],
    ['--peers --shapes wan', /--shapes cannot be chosen with --peers/],
  ])('refuses %s, and says what there is', (line, message) => {
    expect(() => asked(line)).toThrow(message);
  });

  it('help names every option, preset and family', () => {
    const text = helpText({ cpu: ['ofCpu'], peers: ['ofPeers'], cuda: ['ofCuda'] }, 'the program');
    for (const word of [
      'the program diff',
      'ofCpu',
      'ofPeers',
      'ofCuda',
      'diff',
      'report',
      '--device',
      '--json',
      ...presetNames,
    ]) {
      expect(text).toContain(word);
    }
  });
});

describe('families', () => {
  it('are all those that can do what is asked, unless some are named', () => {
    expect(familiesFor([], { dtype: 'float32' })).toEqual(
      expect.arrayContaining(['attention', 'elementwise', 'train']),
    );
    expect(familiesFor([], { dtype: 'float64' })).toEqual(['attention', 'matmul', 'mmd', 'norm']);
    expect(familiesFor([], { dtype: 'bfloat16' })).toEqual(
      'activation attention embedding gatedResidual matmul mmd norm optim patches softmax'.split(' '),
    );
    expect(familiesFor([], { dtype: 'float32', shapes: 'tvm-table' })).toEqual(['attention']);
    expect(familiesFor(['norm'], { dtype: 'float16', shapes: 'wan' })).toEqual(['norm']);
  });

  it('that cannot are refused by name', () => {
    expect(() => familiesFor(['normal'], { dtype: 'float32' })).toThrow(/unknown family 'normal', expected one of act/);
    expect(() => familiesFor(['reduce'], { dtype: 'float16' })).toThrow(/'reduce' is measured in float32 only/);
    expect(() => familiesFor(['optim'], { dtype: 'float64' })).toThrow(/is measured in float32 and bfloat16 only/);
    expect(() => familiesFor(['mmd'], { dtype: 'float32', shapes: 'wan' })).toThrow(
      /'mmd' is measured at its own sizes/,
    );
    expect(() => familiesFor(['norm'], { dtype: 'float32', shapes: 'tvm-table' })).toThrow(/expected one of dit-xl-2/);
  });
});

describe('presets on a CPU', () => {
  it('say what was left out, and leave out nothing in silence', () => {
    expect(attentionOnCpu('tvm-table').map(({ title }) => title)).toEqual(
      [4096, 8192, 16384, 32768].map((tokens) => `B 1, H 1 of 24, S ${tokens}, D 128`),
    );
    expect(attentionOnCpu('wan')).toEqual([
      { title: 'B 1, H 1 of 40, S 16384 of 32760, D 128', size: { batch: 1, heads: 1, tokens: 16384, dim: 128 } },
    ]);
    expect(rowsOnCpu('dit-xl-2')).toEqual({ rows: 16384, width: 1152, text: '16384 of 65536' });
    expect(rowsOnCpu('tvm-table')).toBeNull();
    for (const name of presetNames) {
      const titles = attentionOnCpu(name).map(({ title }) => title);
      expect(titles.some((title) => title.includes(' of '))).toBe(isCapped(name));
    }
  });

  it('hold widths that are heads times head size', () => {
    for (const preset of Object.values(presets)) {
      if (!('rows' in preset)) continue;
      expect(preset.attention.map(({ heads, dim }) => heads * dim)).toEqual(
        preset.attention.map(() => preset.rows.width),
      );
    }
  });
});

describe('groups on a GPU', () => {
  const options = { families: [], short: false, args: [] };

  it('follow families, dtype and preset at full size', () => {
    const dtypes = (dtype: BenchmarkDType) => chosenGroups({ ...options, dtype }, false).map(dtypeOf);
    expect(new Set(dtypes('bfloat16'))).toEqual(new Set(['bfloat16']));
    const wan = chosenGroups({ ...options, families: ['attention', 'matmul'], shapes: 'wan' }, false);
    expect(wan.map(({ title }) => title)).toContain('attention, [1, 40, 75600, 128] bfloat16');
    expect(wan.every(({ family }) => family === 'attention' || family === 'matmul')).toBe(true);
    expect(chosenGroups({ ...options, shapes: 'tvm-table' }, false).map(({ scaling }) => scaling?.value)).toEqual([
      4096, 8192, 16384, 32768,
    ]);
    for (const shapes of presetNames) {
      const groups = groupsOf({ device: 'cuda', toy: false, shapes });
      expect(groups.filter(({ memory }) => !(memory > 0 && memory < 300e9))).toEqual([]);
      expect(new Set(groups.map(({ title }) => title)).size).toBe(groups.length);
    }
    expect(groupsOf({ device: 'cuda', toy: false }).map(dtypeOf)).not.toContain(undefined);
  });

  it('that there are not are refused', () => {
    expect(() => chosenGroups({ ...options, families: ['nrom'] }, false)).toThrow(
      /unknown family 'nrom', expected one of/,
    );
    expect(() => chosenGroups({ ...options, families: ['mmd'], shapes: 'wan' }, false)).toThrow(
      /no group on a GPU matches families 'mmd', shapes 'wan'/,
    );
    expect(() => chosenGroups({ ...options, only: 'nothing' }, false)).toThrow(/only 'nothing'/);
    expect(gpuFamilies()).toContain('attention');
  });
});
