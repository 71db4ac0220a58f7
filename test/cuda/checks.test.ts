// The emulator's own tests: instructions by their definitions; planted bugs, of which each must be caught, with a report
// that names the lines marked for it in the source; and nothing reported on the kernels without one.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, nvcc, root, run } from './support/programs';

interface Result {
  name: string;
  right: boolean;
  error: string;
}

const correct = {
  banks: ['plainTiles', 'swizzledTiles', 'stride1', 'stride2', 'stride32', 'stride33', 'broadcast'],
  copies: ['copy4', 'copy8', 'copy16', 'zeroFill4', 'zeroFill8', 'zeroFill16', 'hints', 'groups'],
  matrix: [
    ...['ldmatrix.x1', 'ldmatrix.x2', 'ldmatrix.x4', 'ldmatrix.x1.trans', 'ldmatrix.x2.trans', 'ldmatrix.x4.trans'],
    ...['movmatrix', 'mma.m16n8k16.bf16', 'mma.m16n8k8.bf16', 'mma.m16n8k16.f16', 'mma.m16n8k8.f16'],
    ...['mma.m16n8k16.f16.f16', 'mma.m16n8k8.f16.f16', 'mma.m16n8k8.tf32', 'mma.m16n8k4.tf32'],
  ],
  cluster: [
    ...['registers', 'registersAlone', 'registersCompiled', 'readNext', 'writeNext', 'splitBarrier', 'someExit'],
    ...['clusterFlag', 'groups', 'launches'],
  ],
  planted_cluster: ['exchange', 'correctUse', 'start', 'throughGlobal'],
  hopper_barrier: ['ring', 'ringTests', 'counts', 'remote', 'remoteRelaxed', 'roles'],
  hopper_tma: [
    ...['loadRanks', 'storeRanks', 'addRanks', 'load32', 'load64', 'load128', 'store32', 'store64', 'store128'],
    ...['add128', 'plain', 'vectors', 'send', 'multicast', 'refusedMaps'],
  ],
  hopper_tile: ['depth64', 'depth80', 'depth96', 'depth112', 'depth128', 'depth128float16'],
  hopper_wgmma: [
    ...['n32', 'n64', 'n80', 'n96', 'n112', 'n128', 'swizzle32', 'swizzle64', 'swizzle128', 'registers', 'signs'],
  ],
  planted_hopper: ['pipeline'],
  planted_hopper_cluster: ['exchange'],
  planted_pipeline: ['pipeline'],
  planted_matrix: ['product', 'productPadded', 'productWide'],
  planted_blocks: [
    ...['warpExchange', 'shuffle', 'barrier', 'namedBarriers', 'copy', 'pairs', 'sharedIndex', 'sharedPairs'],
    ...['flag', 'broadcast', 'packBytes', 'volatileWrites', 'histogram', 'lastBlock', 'bytes', 'readBack'],
  ],
};

const reported = {
  planted_hopper: {
    noInitBarrier:
      /^race at the mbarrier at shared\+0x\w+ .* its initialisation by thread 0 .* and its use by thread \d+ /,
    noInitFence: /^cp\.async\.bulk\.tensor\.2d.* names an mbarrier whose initialisation .* no fence\.mbarrier_init/,
    noEmptyWait: /^mbarrier\.arrive\.expect_tx.*: 1 arrivals at the mbarrier .*, which expects 0 more of 1/,
    noFullWait: /^race at shared.* read by a wgmma of warp \d .* and write by a bulk copy .* are not ordered/,
    fewBytes: /^deadlock: threads 0-127 wait in mbarrier\.try_wait.* lacks 0 of 1 arrivals and -1024 bytes/,
    manyBytes: /^deadlock: threads 0-127 wait in mbarrier\.try_wait.* lacks 0 of 1 arrivals and 1024 bytes/,
    wrongParity: /^race at shared.* read by a wgmma of warp \d .* and write by a bulk copy .* are not ordered/,
    overArrival: /^mbarrier\.arrive.*: 128 arrivals at the mbarrier .*, which expects 127 more of 128/,
    uninitialised: /^cp\.async\.bulk\.tensor\.2d.*: there is no initialised mbarrier at shared\+0x\w+/,
    noWgmmaFence: /^wgmma\.mma_async.* without a wgmma\.fence/,
    noWgmmaWait: /^race at shared.* read by a wgmma of warp \d .* and write by a bulk copy .* are not ordered/,
    earlyRelease: /^race at shared.* read by a wgmma of warp \d .* and write by a bulk copy .* are not ordered/,
    noProxyFence:
      /^race at shared.* write by thread \d+ .* read by a wgmma .* have no fence\.proxy\.async between them/,
    noNamedBarrier: /^race at shared.* write by thread \d+ .* and read by a wgmma of warp 0 .* are not ordered/,
    warpLeftOut: /^wgmma\.mma_async.* of warp 3 differs from what another warp of its warpgroup did/,
    storeWithoutProxyFence: /^race at shared.* read by a bulk copy .* have no fence\.proxy\.async between them/,
    overwriteOfSource: /^race at shared.* read by a bulk copy .* and write by thread 0 .* are not ordered/,
    storeNotAwaited: /^cp\.async\.bulk\.tensor\.2d.* is under way while the block of its shared memory ends/,
    readAfterReadWait: /^race at global.* write by a bulk copy .* and read by thread 0 .* are not ordered/,
    misalignedTile: /^cp\.async\.bulk\.tensor\.2d.* which is not a multiple of 1024/,
    wrongRank: /^cp\.async\.bulk\.tensor\.3d.*: the tensor map has 2 dimensions/,
  },
  planted_hopper_cluster: {
    noStart: /^access to the shared memory of block 1 of the cluster, which may not have started/,
    noInitFence:
      /^race at the mbarrier .* of block 0: its initialisation by thread 0 of block 0 .* its use by thread 0 of block 1/,
    noProxyFence: /^race at shared.* read by a bulk copy .* have no fence\.proxy\.async between them/,
    sourceReused: /^race at shared.* read by a bulk copy .* and write by thread 0 of block \d .* are not ordered/,
    leaves: /^deadlock: block 0 of the cluster: threads 0-31 wait in mbarrier\.try_wait.* lacks 32 of 32 arrivals/,
    beyondTheCluster: /^cp\.async\.bulk\.tensor\.2d.* to blocks 0x5 of a cluster of 2/,
  },
  planted_pipeline: {
    noWait:
      /^race at shared\+0x\w+: write by a cp\.async of thread \d+ \(.*\) and read by thread \d+ \(.*\) are not ordered/,
    wrongGroup: /^race at shared.* write by a cp\.async of thread \d+ .* and read by thread/,
    noBarrierBeforeUse: /^read of 16 bytes at shared 0x\w+, which was never written/,
    noBarrierBeforeOverwrite: /^race at shared.* cp\.async of thread \d+ .* thread \d+ .* are not ordered/,
    reuseOfSource: /^race at global.* read by a cp\.async of thread 0 .* and write by thread 0 /,
  },
  planted_cluster: {
    unsynced: /^race at shared.* of block \d .* write by thread \d+ of block \d .* and read by thread \d+ of block \d /,
    relaxed: /^race at shared.* write by thread \d+ of block \d .* and read by thread \d+ of block \d /,
    overwrite: /^race at shared.* of block \d .* are not ordered/,
    early: /^read of 4 bytes at shared 0x\w+ of block \d of the cluster, which has ended/,
    exit: /^read of 4 bytes at shared 0x\w+ of block 0 of the cluster, which has ended/,
    lateExit: /^race at shared.* of block 0 .*: its access by thread \d+ of block 1 .* and the end of the block/,
    noStart: /^access to the shared memory of block 1 of the cluster, which may not have started/,
    unwritten: /^read of 4 bytes at shared 0x\w+ of block \d of the cluster, which was never written/,
    beyond: /^read of 4 bytes at shared 0x\w+ of block \d of the cluster, \d+ bytes past the end of 256 bytes/,
    odd: /^read of 4 bytes at shared 0x\w+ of block \d of the cluster, which is misaligned/,
    beyondTheCluster: /^mapa\..*: block 2 of a cluster of 2/,
    ownSpace: /^read of 4 bytes at shared 0x\w+, \d+ bytes past the end/,
    arrivesTwice: /^barrier\.cluster\.arrive, but the thread arrived before/,
    waitsAlone: /^barrier\.cluster\.wait, but the thread has not arrived/,
    divergent: /^divergent barrier: barrier\.cluster\.arrive\.aligned/,
    deadlock:
      /^deadlock: block 0 of the cluster: threads 0-31 wait .*; threads 32-63 wait .*; block 1 of the cluster: /,
    globalWithoutBarrier: /^race at global .* by thread \d+ of block \d of the cluster .* are not ordered/,
  },
  planted_matrix: {
    misalignedRow: /^read of 16 bytes at shared 0x\w+, which is misaligned/,
    outOfRangeRow: /^read of 16 bytes at shared 0x\w+, \d+ bytes past the end/,
    divergent: /^ldmatrix.* without lane 9, which has ended/,
  },
  planted_blocks: {
    noSyncwarp: /^race at shared\+0x0: read by thread 31 .* and write by thread 0 /,
    shuffleInsteadOfSyncwarp: /^race at shared.* write by thread \d+ .* and read by thread \d+ /,
    divergentBarrier: /^divergent barrier: bar\.sync 0/,
    deadlock: /^deadlock: threads 0-31 wait in .*; threads 32-127 wait in /,
    noEmptyBarrier: /^deadlock: threads 0-31 ended; threads 32-63 wait in /,
    flagWithoutFence: /^race at shared.* write by thread 0 .* and read by thread 32 /,
    someReadersNotWaitedFor: /^race at shared.* read by thread (9[6-9]|1[012]\d) .* and write by thread 0 /,
    plainWrites: /^race at shared.* write by thread \d+ .* and write by thread \d+ /,
    bytesRace: /^race at shared|^read of 4 bytes at shared 0x\w+, which was never written/,
    blocksReadWrite: /^race at global.* read by thread 0 of block 2 .* and write by thread 0 of block 3 /,
    unwrittenShared: /^read of 4 bytes at shared 0x\w+, which was never written/,
    globalOutOfBounds: /^read of 4 bytes at 0x\w+, 4 bytes past the end of an allocation of 400 bytes/,
    useAfterFree: /^read of 4 bytes at 0x\w+, in a freed allocation of 400 bytes/,
    globalUnwritten: /^read of 4 bytes at 0x\w+, which was never written/,
    globalMisaligned: /^read of 8 bytes at 0x\w+, which is misaligned/,
    sharedOutOfBounds: /^write of 4 bytes at shared 0x\w+, 4 bytes past the end/,
    sharedMisaligned: /^read of 8 bytes at shared 0x\w+, which is misaligned/,
    blocksRace: /^race at global .* by thread 0 of block 0 .* by thread 0 of block 1 /,
    noFence: /^race at global .* write by thread 0 of block 0 .* read by thread 0 of block 7 /,
    globalRace: /^race at global .* read by thread 0 .* and write by thread 1 /,
  },
};

// Legal for the device, wrong in value.
const wrong = {
  planted_matrix: ['wrongRows', 'swappedB', 'lostTrans'],
  planted_blocks: ['noSynchronisation'],
  planted_hopper: ['swappedCoordinates', 'wrongMajor'],
};

// Programs with clusters, and those for Hopper, have PTX for 9.0 only.
const deviceOf = (program: string): Record<string, string> => (/cluster|hopper/.test(program) ? { SIMT_SM: '90' } : {});

const results = new Map<string, Map<string, Result>>();

function resultsOf(program: string): Map<string, Result> {
  let found = results.get(program);
  if (!found) {
    found = new Map(run<Result>(program, [], { env: deviceOf(program) }).map((result) => [result.name, result]));
    results.set(program, found);
  }
  return found;
}

/** Lines of the program's source that carry [name] in a comment, or follow comments that do. */
function markedLines(program: string, name: string): number[] {
  const lines = readFileSync(join(root, 'test', 'cuda', 'simt', 'selftest', `${program}.cu`), 'utf8').split('\n');
  const isComment = (index: number) => lines[index]!.trimStart().startsWith('//');
  return lines.flatMap((line, index) => {
    if (!line.includes(`[${name}]`) || !line.includes('//')) return [];
    let marked = index;
    while (isComment(marked)) ++marked;
    return [marked + 1];
  });
}

const pairs = (lists: Record<string, string[]>) =>
  Object.entries(lists).flatMap(([program, names]) => names.map((name) => [program, name] as const));
const schedules = [
  {},
  { SIMT_SEED: '1' },
  { SIMT_SEED: '2', SIMT_COMPLETION: 'random' },
  { SIMT_COMPLETION: 'eager' },
  { SIMT_WORKERS: '3' },
];

(nvcc ? describe : describe.skip)('the CUDA emulator (needs nvcc)', () => {
  beforeAll(() => build('cuda_checks'), 600_000);

  it.each(pairs(correct))('%s: %s gives what its definition says, and nothing is reported', (program, name) => {
    expect(resultsOf(program).get(name)).toEqual({ name, right: true, error: '' });
  });

  it.each(
    Object.entries(reported).flatMap(([program, cases]) =>
      Object.entries(cases).map(([name, report]) => [program, name, report] as const),
    ),
  )('%s: the planted bug %s is reported with its lines', (program, name, report) => {
    const result = resultsOf(program).get(name);
    expect(result?.error).toMatch(report);
    const lines = markedLines(program, name);
    expect(lines.length).toBeGreaterThan(0);
    const named = lines.filter((line) => new RegExp(`${program}\\.cu:${line}\\b`).test(result!.error));
    // Races and deadlocks have two sides; a marked line may stand for either of two equal reads or writes.
    expect(named.length).toBeGreaterThanOrEqual(Math.min(lines.length, /^(race|deadlock)/.test(result!.error) ? 2 : 1));
  });

  it.each(pairs(wrong))('%s: the planted bug %s shows in the values', (program, name) => {
    expect(resultsOf(program).get(name)).toEqual({ name, right: false, error: '' });
  });

  it.each(schedules)('correct kernels stay correct with %j', (env) => {
    for (const [program, names] of Object.entries(correct)) {
      const found = run<Result>(program, names, { env: { ...deviceOf(program), ...(env as Record<string, string>) } });
      expect(found.filter(({ right, error }) => !right || error)).toEqual([]);
      expect(found).toHaveLength(names.length);
    }
  });

  it('clusters are refused before compute capability 9.0', () => {
    const refused = { name: 'unsupported', right: true, error: '' };
    expect(run<Result>('cluster', ['unsupported'], { env: { SIMT_SM: '80' } })).toEqual([refused]);
  });

  it.each(['1', '2', '3'])('a block that may end too early is reported in schedule %s', (seed) => {
    for (const name of ['exit', 'lateExit', 'early']) {
      const [result] = run<Result>('planted_cluster', [name], { env: { SIMT_SM: '90', SIMT_SEED: seed } });
      expect(result!.error).toMatch(/which has ended|and the end of the block|are not ordered/);
    }
  });

  it('without the race detector a missing wait is still a read of nothing', () => {
    const [result] = run<Result>('planted_pipeline', ['noWait'], { env: { SIMT_RACES: '0' } });
    expect(result!.error).toMatch(/^read of 16 bytes at shared 0x\w+, which was never written/);
  });
});
