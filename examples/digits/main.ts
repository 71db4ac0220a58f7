// Handwritten digits in one network evaluation, by a flow map trained here and now: `npm run demo`.
// Leaves checkpoint, metrics, samples and a report in runs/digits.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  dispose,
  Generator,
  loadCheckpoint,
  nn,
  randn,
  type StepMetrics,
  sampleEuler,
  sampleFlowMap,
  saveSafetensors,
  type Tensor,
  tensor,
  tidy,
  train,
} from 'flowmap';
import { agreement, type Classifier, classify, trainClassifier } from './classifier';
import { denormalize, loadDigits, normalize } from './data';
import { frechetPercent } from './frechet';
import { closeness } from './nearest';
import { recipe } from './recipe';
import { type Measured, readMetrics, writeReport } from './report';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '0' },
    out: { type: 'string', default: join('runs', 'digits') },
    quick: { type: 'boolean', default: false },
    resume: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
  },
});

const classes = 10;
const perClass = 10;

/** Draws with `sampler` in chunks, so that memory does not grow with the count. -> [0, 1], [count, 784] */
function draw(labels: Int32Array, seed: number, sampler: (noise: Tensor, labels: Tensor) => Tensor): Float32Array {
  const out = new Float32Array(labels.length * 784);
  const generator = new Generator(seed);
  for (let begin = 0; begin < labels.length; begin += 250) {
    tidy(() => {
      const some = labels.subarray(begin, begin + 250);
      const images = sampler(randn([some.length, 1, 28, 28], { generator }), tensor(Int32Array.from(some)));
      out.set(denormalize(images), begin * 784);
    });
  }
  return out;
}

function judge(
  name: string,
  evaluations: number,
  images: Float32Array,
  labels: Int32Array,
  net: Classifier,
  real: Float64Array,
): Measured {
  const { features, predictions } = classify(net, images);
  return {
    name,
    evaluations,
    frechet: frechetPercent(features, real, 64),
    agreement: agreement(predictions, labels),
    grid: grid(images, labels),
  };
}

/** The first ten of each class, a row a class. */
function grid(images: Float32Array, labels: Int32Array): Float32Array {
  const out = new Float32Array(classes * perClass * 784);
  const next = new Array<number>(classes).fill(0);
  for (const [i, label] of labels.entries()) {
    const place = next[label]!;
    if (place >= perClass) continue;
    next[label] = place + 1;
    out.set(images.subarray(i * 784, (i + 1) * 784), (label * perClass + place) * 784);
  }
  return out;
}

async function main(): Promise<void> {
  const seed = Number(values.seed);
  const out = values.out;
  const started = performance.now();
  const clock = () => (performance.now() - started) / 1000;
  await mkdir(out, { recursive: true });
  const say = (text: string) => values.quiet || console.error(text);

  say('reading the digits');
  const { train: digits, heldOut } = loadDigits();
  const data = { images: normalize(digits), labels: tensor(digits.labels) };
  const config = recipe(seed, values.quick ? { matchingSteps: 400, terminalSteps: 40 } : {});
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const lines: StepMetrics[] = [];
  const result = await train(config, data, {
    out,
    resume: values.resume,
    quiet: values.quiet,
    signal: stop.signal,
    onMetrics: (line) => lines.push(line),
  });
  dispose(data);
  if (!result.finished) {
    console.error(`stopped at step ${result.step}; go on with: npm run demo -- --resume`);
    process.exitCode = 130;
    return;
  }
  const trained = clock();

  say('training the classifier that judges the samples');
  const classifier = trainClassifier(digits);
  const real = classify(classifier, heldOut.pixels);
  const floor = frechetPercent(classify(classifier, digits.pixels.subarray(0, 2000 * 784)).features, real.features, 64);
  const judged = clock();

  say('drawing samples');
  const labels = heldOut.labels;
  const warm = await loadStage(config.model, join(out, 'stage0.safetensors'));
  const flowMap = (steps: number) => (noise: Tensor, y: Tensor) =>
    sampleFlowMap(result.net, noise, { steps, labels: y });
  const euler = (steps: number, cfg: number) => (noise: Tensor, y: Tensor) =>
    sampleEuler(warm, noise, { steps, labels: y, cfg }).samples;
  const drawn = {
    one: draw(labels, seed + 1, flowMap(1)),
    two: draw(labels, seed + 1, flowMap(2)),
    four: draw(labels, seed + 1, flowMap(4)),
    flowOne: draw(labels, seed + 1, euler(1, 1)),
    flowMany: draw(labels, seed + 1, euler(50, 2)),
  };
  const measured = [
    judge('Terminal Velocity Matching, 1 step', 1, drawn.one, labels, classifier, real.features),
    judge('Terminal Velocity Matching, 2 steps', 2, drawn.two, labels, classifier, real.features),
    judge('Terminal Velocity Matching, 4 steps', 4, drawn.four, labels, classifier, real.features),
    judge('Flow matching, 1 step', 1, drawn.flowOne, labels, classifier, real.features),
    judge('Flow matching, 50 steps, guidance 2', 100, drawn.flowMany, labels, classifier, real.features),
  ];
  for (const [name, images] of [
    ['1step', drawn.one],
    ['4step', drawn.four],
  ] as const) {
    const tensors = { images: tensor(images, { shape: [labels.length, 28, 28] }), labels: tensor(labels) };
    await saveSafetensors(join(out, `samples-${name}.safetensors`), tensors, { checkpoint: result.checkpoint });
    dispose(tensors);
  }
  const nearness = closeness(drawn.one, labels, digits.pixels, heldOut.pixels);
  await writeReport(join(out, 'report.html'), {
    measured,
    closeness: nearness,
    metrics: await readMetrics(join(out, 'metrics.jsonl')),
    floor,
    classifierAccuracy: agreement(real.predictions, labels),
    realGrid: grid(heldOut.pixels, labels),
    config,
    parameters: result.net.parameterCount,
    seconds: {
      training: result.seconds,
      reading: trained - result.seconds.reduce((a, b) => a + b, 0),
      judging: judged - trained,
      all: clock(),
    },
  });
  const { samples, heldOut: unseen, nearerToTraining } = nearness;
  const summary = {
    seed,
    floor,
    seconds: clock(),
    trainingSeconds: result.seconds,
    results: measured.map(({ grid: _, ...rest }) => rest),
    distanceToTraining: { samples, heldOut: unseen, nearerToTraining },
  };
  await writeFile(join(out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
  for (const { name, frechet, agreement: agrees } of measured) {
    console.log(`${name}: Frechet distance ${frechet.toFixed(2)} %, labels agree ${(100 * agrees).toFixed(1)} %`);
  }
  console.log(
    `Nearest training image: median distance ${samples.median.toFixed(2)}, of held-out digits ${unseen.median.toFixed(2)}`,
  );
  console.log(`${clock().toFixed(0)} s in all; look at ${join(out, 'report.html')}`);
}

async function loadStage(model: ConstructorParameters<typeof nn.DiT>[0], path: string): Promise<nn.DiT> {
  const { tensors } = await loadCheckpoint(path);
  const net = new nn.DiT(model);
  net.loadStateDict(tensors.model!);
  dispose(Object.values(tensors));
  return net;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  if (process.env.FLOWMAP_DEBUG) console.error(error);
  process.exitCode = 1;
});
