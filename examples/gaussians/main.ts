// Eight Gaussians in one jump: a flow map on the plane, its network written here, trained in seconds.
// node -r ./scripts/typescript.cjs examples/gaussians/main.ts [--steps n] [--seed n] [--out folder]
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  AdamW,
  cosineSchedule,
  Ema,
  functionalCall,
  Generator,
  randn,
  sampleEuler,
  sampleFlowMap,
  setThreads,
  type Tensor,
  tensor,
  tidy,
  tvmLoss,
  valueAndGrad,
} from 'flowmap';
import { PointFlowMap } from './model';
import { eightGaussians, modeCoverage, slicedWasserstein } from './points';
import { type Cloud, writeReport } from './report';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '0' },
    steps: { type: 'string', default: '1500' },
    out: { type: 'string', default: join('runs', 'gaussians') },
  },
});

const batch = 256;
const count = 4000;

async function main(): Promise<void> {
  const [seed, steps] = [Number(values.seed), Number(values.steps)];
  // Sums this small lose more by sharing than they gain.
  setThreads(1);
  const generator = new Generator(seed);
  const net = new PointFlowMap(128, 3, generator);
  const params = net.namedParameters();
  const optimizer = new AdamW(params, { betas: [0.9, 0.99] });
  const teacher = new Ema(params, 0.99);
  const lr = cosineSchedule({ lr: 2e-3, steps, warmup: 20, final: 0.02 });
  const losses: [number, number, number][] = [];

  const started = performance.now();
  for (let step = 0; step < steps; step++) {
    tidy(() => {
      const x = tensor(eightGaussians(batch, generator), { shape: [batch, 2] });
      const lossOf = (stand: Map<string, Tensor>) =>
        functionalCall(net, stand, () => {
          const { loss, terminal, flowMatching } = tvmLoss(
            net,
            teacher.tensors,
            { x },
            { generator, times: { startShare: 0.3 } },
          );
          return [loss, [terminal.mean(), flowMatching.mean()]] as const;
        });
      const [[, [terminal, flowMatching]], gradients] = valueAndGrad(lossOf, { hasAux: true })(params);
      optimizer.update(gradients, { lr: lr(step) });
      teacher.update();
      // Reading waits for the device, so it is done now and then.
      if (step % 10 === 0) losses.push([step, terminal.itemSync(), flowMatching.itemSync()]);
    });
  }
  net.loadStateDict(teacher.tensors);
  const seconds = (performance.now() - started) / 1000;

  const data = eightGaussians(count, generator);
  const floor = slicedWasserstein(eightGaussians(count, generator), data);
  const noise = randn([count, 2], { generator });
  const measure = (name: string, samples: Tensor): Cloud & { distance: number } => {
    const points = samples.dataSync() as Float32Array;
    const distance = slicedWasserstein(points, data);
    const { near, modes } = modeCoverage(points);
    console.log(`${name}: distance ${distance.toFixed(3)}, ${modes} of 8 modes, ${(100 * near).toFixed(0)} % near one`);
    return { name, note: `distance ${distance.toFixed(3)}, ${modes} of 8 modes`, points, distance };
  };
  const jumps = [1, 2, 4].map((n) =>
    measure(n === 1 ? 'Flow map, 1 step' : `Flow map, ${n} steps`, sampleFlowMap(net, noise, { steps: n })),
  );
  const euler = [1, 50].map((n) =>
    measure(n === 1 ? 'Euler, 1 step' : `Euler, ${n} steps`, sampleEuler(net, noise, { steps: n }).samples),
  );
  await mkdir(values.out, { recursive: true });
  const path = join(values.out, 'report.html');
  await writeReport(path, {
    clouds: [...jumps, ...euler, { name: 'Data', note: `two draws differ by ${floor.toFixed(3)}`, points: data }],
    distance: jumps[0]!.distance,
    floor,
    losses,
    seconds,
    steps,
    batch,
    seed,
    parameters: net.parameterCount,
  });
  console.log(`trained in ${seconds.toFixed(1)} s; look at ${path}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
