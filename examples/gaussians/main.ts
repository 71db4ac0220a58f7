// Eight Gaussians in one jump: flow maps on the plane, their network written here, trained in seconds by two objectives.
// node -r ./scripts/typescript.cjs examples/gaussians/main.ts [--objective tvm|imm|both] [--steps n] [--seed n] [--out folder]
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Generator, randn, sampleEuler, sampleFlowMap, samplePushforward, setThreads, type Tensor } from 'flowmap';
import type { PointFlowMap } from './model';
import { type ObjectiveName, parseOptions } from './options';
import { eightGaussians, modeCoverage, slicedWasserstein } from './points';
import { type Cloud, type Result, writeReport } from './report';
import { momentMatching, type Trained, type TrainOptions, trainMomentMatching, trainTerminalVelocity } from './train';

interface Method {
  name: string;
  short: string;
  paper: string;
  train(options: TrainOptions): Trained;
  sample(net: PointFlowMap, noise: Tensor, steps: number): Tensor;
}

const methods: Record<ObjectiveName, Method> = {
  tvm: {
    name: 'Terminal Velocity Matching',
    short: 'TVM',
    paper: 'arXiv 2511.19797',
    train: trainTerminalVelocity,
    sample: (net, noise, steps) => sampleFlowMap(net, noise, { steps }),
  },
  imm: {
    name: 'Inductive Moment Matching',
    short: 'IMM',
    paper: 'arXiv 2503.07565',
    train: trainMomentMatching,
    sample: (net, noise, steps) => samplePushforward(net, noise, { ...momentMatching, steps }).samples,
  },
};

// At 4000 points two draws of the data differ by 0.04 to 0.10, as much as trained networks do.
const count = 16000;
// Apart from any training's seed, so that all runs are measured by the same noise and the same data.
const measuringSeed = 2 ** 31;

async function main(): Promise<void> {
  const { objectives, seed, steps, out } = parseOptions(process.argv.slice(2));
  // Sums this small lose more by sharing than they gain.
  setThreads(1);
  const generator = new Generator(measuringSeed);
  const data = eightGaussians(count, generator);
  const floor = slicedWasserstein(eightGaussians(count, generator), data);
  const noise = randn([count, 2], { generator });
  const measure = (method: string, n: number, samples: Tensor): Cloud => {
    const points = samples.dataSync() as Float32Array;
    const [distance, { near, modes }] = [slicedWasserstein(points, data), modeCoverage(points)];
    const cloud = { name: `${method}, ${n} step${n === 1 ? '' : 's'}`, points, distance, near, modes };
    console.log(
      `${cloud.name}: distance ${distance.toFixed(3)}, ${modes} of 8 modes, ${(100 * near).toFixed(0)} % near one`,
    );
    return cloud;
  };

  const euler: Cloud[] = [];
  const results = objectives.map((objective): Result => {
    const { name, short, paper, train, sample } = methods[objective];
    const { net, ...trained } = train({ steps, seed });
    console.log(`${name}: trained in ${trained.seconds.toFixed(1)} s`);
    const clouds = [1, 2, 4].map((n) => measure(short, n, sample(net, noise, n)));
    // Only this objective teaches the network the velocity F(x, t, t).
    if (objective === 'tvm') {
      euler.push(...[1, 50].map((n) => measure('Euler', n, sampleEuler(net, noise, { steps: n }).samples)));
    }
    return { name, short, paper, clouds, parameters: net.parameterCount, ...trained };
  });
  await mkdir(out, { recursive: true });
  const path = join(out, 'report.html');
  await writeReport(path, { results, euler, data, floor, steps, seed });
  console.log(`two draws of the data differ by ${floor.toFixed(3)}; look at ${path}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
