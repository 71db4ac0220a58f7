// Handwritten digits in one network evaluation, by a flow map trained here and now: `npm run demo`.
// Leaves checkpoint, metrics, samples and a report in runs/digits. --objective imm trains by Inductive Moment Matching instead,
// --objective both by either, for one page.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { dispose, Generator, randn, saveSafetensors, type Tensor, tensor, tidy, train } from 'flowmap';
import { agreement, type Classifier, classify, trainClassifier } from './classifier';
import { denormalize, loadDigits, normalize } from './data';
import { frechetPercent } from './frechet';
import { methodNames, type Sampler, samplersOf, type Trained, warmSamplers } from './method';
import { closeness } from './nearest';
import { type Objective, recipe } from './recipe';
import { type Measured, readMetrics, writeReport } from './report';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '0' },
    objective: { type: 'string', default: 'tvm' },
    device: { type: 'string', default: 'cpu' },
    out: { type: 'string' },
    quick: { type: 'boolean', default: false },
    resume: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
  },
});

const { device } = values;
const classes = 10;
const perClass = 10;

/** Draws with `sampler` in chunks, so that memory does not grow with the count. -> [0, 1], [count, 784] */
function draw(labels: Int32Array, seed: number, sampler: (noise: Tensor, labels: Tensor) => Tensor): Float32Array {
  const out = new Float32Array(labels.length * 784);
  const generator = new Generator(seed);
  for (let begin = 0; begin < labels.length; begin += 250) {
    tidy(() => {
      const some = labels.subarray(begin, begin + 250);
      const images = sampler(randn([some.length, 1, 28, 28], { generator, device }), tensor(some, { device }));
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

/** Which methods to train, and where the page and the first one's files go. */
function plan(): { objectives: Objective[]; out: string } {
  const { objective, out } = values;
  const choices: Record<string, Objective[]> = { tvm: ['tvm'], imm: ['imm'], both: ['tvm', 'imm'] };
  const objectives = Object.hasOwn(choices, objective) ? choices[objective] : undefined;
  if (!objectives) throw new Error(`--objective must be one of ${Object.keys(choices).join(', ')}, got '${objective}'`);
  return { objectives, out: out ?? join('runs', objective === 'imm' ? 'digits-imm' : 'digits') };
}

async function main(): Promise<void> {
  const seed = Number(values.seed);
  const { objectives, out } = plan();
  const started = performance.now();
  const clock = () => (performance.now() - started) / 1000;
  const say = (text: string) => values.quiet || console.error(text);

  say('reading the digits');
  const { train: digits, heldOut } = loadDigits();
  const data = { images: normalize(digits, device), labels: tensor(digits.labels, { device }) };
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const trained: Trained[] = [];
  for (const [i, objective] of objectives.entries()) {
    const folder = i === 0 ? out : join(out, objective);
    await mkdir(folder, { recursive: true });
    const config = recipe(seed, objective, values.quick ? 0.1 : 1);
    if (objectives.length > 1) say(methodNames[objective]);
    const result = await train(config, data, {
      out: folder,
      resume: values.resume && existsSync(join(folder, 'checkpoint.safetensors')),
      quiet: values.quiet,
      signal: stop.signal,
    });
    if (!result.finished) {
      const same = objectives.length > 1 || objective === 'imm' ? ` --objective ${values.objective}` : '';
      console.error(`stopped at step ${result.step}; go on with: npm run demo -- --resume${same}`);
      process.exitCode = 130;
      return;
    }
    const { net, seconds, checkpoint } = result;
    const metrics = await readMetrics(join(folder, 'metrics.jsonl'));
    trained.push({ objective, config, out: folder, checkpoint, net, seconds, metrics });
  }
  dispose(data);
  const trainedAt = clock();

  say('training the classifier that judges the samples');
  const classifier = trainClassifier(digits);
  const real = classify(classifier, heldOut.pixels);
  const floor = frechetPercent(classify(classifier, digits.pixels.subarray(0, 2000 * 784)).features, real.features, 64);
  const judgedAt = clock();

  say('drawing samples');
  const { labels } = heldOut;
  const measured: Measured[] = [];
  const measure = (sampler: Sampler) => {
    const images = draw(labels, seed + 1, sampler.draw);
    measured.push(judge(sampler.name, sampler.evaluations, images, labels, classifier, real.features));
    return images;
  };
  let first: Float32Array | null = null;
  for (const run of trained) {
    for (const sampler of samplersOf(run)) {
      const images = measure(sampler);
      first ??= images;
      if (!sampler.file) continue;
      const tensors = { images: tensor(images, { shape: [labels.length, 28, 28] }), labels: tensor(labels) };
      await saveSafetensors(join(run.out, `${sampler.file}.safetensors`), tensors, { checkpoint: run.checkpoint });
      dispose(tensors);
    }
  }
  for (const sampler of await warmSamplers(trained[0]!)) measure(sampler);
  const nearness = closeness(first!, labels, digits.pixels, heldOut.pixels);
  await writeReport(join(out, 'report.html'), {
    measured,
    closeness: nearness,
    trained,
    floor,
    classifierAccuracy: agreement(real.predictions, labels),
    realGrid: grid(heldOut.pixels, labels),
    seconds: { judging: judgedAt - trainedAt, all: clock() },
  });
  const { samples, heldOut: unseen, nearerToTraining } = nearness;
  const summary = {
    seed,
    floor,
    seconds: clock(),
    trainingSeconds: trained.length === 1 ? trained[0]!.seconds : trained.map((run) => run.seconds),
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

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  if (process.env.FLOWMAP_DEBUG) console.error(error);
  process.exitCode = 1;
});
