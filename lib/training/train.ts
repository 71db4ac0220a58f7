// Trains a flow-map network through its stages. A run that is stopped, or killed at any moment, goes on from its last
// checkpoint and ends with the same bits as one that never stopped: all that is random comes from one generator, whose
// state is saved with weights, averages and moments.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTick } from 'node:timers/promises';
import { valueAndGrad } from '../autograd/reverse';
import { Progress } from '../cli/progress';
import { zeros } from '../create';
import { ArgumentError, FormatError } from '../errors';
import { type CapturedStep, captureGraph } from '../graph';
import { type JsonValue, loadCheckpoint, saveCheckpoint } from '../io/checkpoint';
import { MetricsWriter } from '../io/metrics';
import { dispose, keep, tidy } from '../memory';
import { DiT } from '../nn/dit';
import { functionalCall } from '../nn/module';
import { take } from '../ops/gather';
import { AdamW } from '../optim/adamw';
import { clipByGlobalNorm } from '../optim/clip';
import { Ema } from '../optim/ema';
import { copyInto } from '../optim/inPlace';
import type { MomentOptimizer } from '../optim/moments';
import { RAdam } from '../optim/radam';
import { cosineSchedule } from '../optim/schedule';
import { Generator, type GeneratorState } from '../random';
import { isTensor, type Tensor } from '../tensor';
import { Batches } from './batches';
import { groupSize, type Stage, type TrainConfig, validateConfig } from './config';
import { drawBatch, lossOf, type StageBatch } from './losses';

/** On the device to train on. */
export interface Dataset {
  /** [N, C, H, W], float32, unit standard deviation. */
  images: Tensor;
  /** int32 [N]. */
  labels: Tensor;
}

/** One line of metrics: means over the steps since the line before. */
export interface StepMetrics {
  /** Steps of all stages so far. */
  step: number;
  stage: number;
  loss: number;
  lr: number;
  /** Seconds of this process's training so far. */
  seconds: number;
  [term: string]: number;
}

export interface TrainOptions {
  /** Folder for `checkpoint.safetensors`, `metrics.jsonl` and each finished stage's `stage<i>.safetensors`. */
  out: string;
  /** Go on from the checkpoint in `out`. Default false. */
  resume?: boolean;
  /** An AbortSignal: when it aborts, a checkpoint is written and training returns. */
  signal?: { readonly aborted: boolean };
  /** No progress bar. Default false. */
  quiet?: boolean;
  onMetrics?: (metrics: StepMetrics) => void;
  /** Record the step of a stage and replay it, with the same results: see `captureGraph`. Default true. */
  record?: boolean;
}

export interface TrainResult {
  /** False if it was stopped. */
  finished: boolean;
  step: number;
  checkpoint: string;
  /** The network, holding the last stage's average. Its owner disposes it. */
  net: DiT;
  /** Seconds of each stage in this process. */
  seconds: number[];
}

/** Scalars. */
type Terms = Record<string, Tensor>;

/** Everything a stage changes as it goes. */
class StageState {
  readonly optimizer: MomentOptimizer;
  readonly ema: Ema;
  readonly teacher: Ema | null;
  private readonly rate: (step: number) => number;
  private readonly batches: Batches;
  private recorded: { run: CapturedStep<readonly Tensor[], Terms>; names: string[] } | null = null;

  constructor(
    readonly net: DiT,
    readonly stage: Stage,
    private readonly generator: Generator,
    labels: Tensor,
    private readonly record: boolean,
  ) {
    // A network that knows no classes must see groups as mixed as the data are.
    this.batches = new Batches(labels, groupSize(stage) > 1 && net.options.classes > 0);
    const params = net.namedParameters();
    const { lr, steps, warmup, final, betas = [0.9, 0.95], weightDecay = 0, ema = 0.9999 } = stage;
    this.optimizer =
      stage.optimizer === 'radam'
        ? new RAdam(params, { lr, betas, weightDecay, decoupled: true })
        : new AdamW(params, { lr, betas, weightDecay });
    this.ema = new Ema(params, ema);
    this.teacher = stage.objective === 'tvm' ? new Ema(params, stage.teacher ?? 0.99) : null;
    this.rate = cosineSchedule({ lr, steps, warmup, final });
  }

  /** One optimiser step. -> the terms of the loss, each []; and the learning rate */
  step(data: Dataset, at: number): { terms: Terms; lr: number } {
    const { net, stage, generator, optimizer } = this;
    optimizer.lr = this.rate(at);
    const terms = tidy(() => {
      const rows = this.batches.draw(stage.batch, groupSize(stage), generator);
      const labels = net.options.classes > 0 ? take(data.labels, rows) : null;
      const batch = drawBatch(stage, { x: take(data.images, rows), labels }, net, generator);
      return this.record ? this.replay(batch) : this.run(batch);
    });
    return { terms, lr: optimizer.lr };
  }

  private run(batch: StageBatch): Terms {
    const { net, stage } = this;
    const objective = (params: Map<string, Tensor>) =>
      functionalCall(net, params, (): [Tensor, Terms] => {
        const { loss, ...parts } = lossOf(stage, batch, { net, teacher: this.teacher?.tensors ?? null });
        return [loss, Object.fromEntries(Object.entries(parts).map(([name, term]) => [name, term.mean()]))];
      });
    const [[loss, parts], gradients] = valueAndGrad(objective, { hasAux: true })(net.namedParameters());
    const limit = stage.clip ?? 0;
    const gradScale = limit > 0 ? clipByGlobalNorm(gradients.values(), limit).scale : null;
    this.optimizer.update(gradients, { gradScale });
    this.ema.update();
    this.teacher?.update();
    return { loss, ...parts };
  }

  /** The tensors of a batch are the arguments of the recording; the rest is the same in each batch of a stage. */
  private replay(batch: StageBatch): Terms {
    const names = Object.keys(batch).filter((name) => isTensor(batch[name]));
    this.recorded ??= {
      names,
      run: captureGraph((...tensors) =>
        this.run({ ...batch, ...Object.fromEntries(names.map((name, i) => [name, tensors[i]!])) }),
      ),
    };
    return this.recorded.run(...this.recorded.names.map((name) => batch[name] as Tensor));
  }

  groups(): Record<string, ReadonlyMap<string, Tensor>> {
    return {
      model: this.net.stateDict(),
      ema: this.ema.tensors,
      optimizer: this.optimizer.stateDict().tensors,
      ...(this.teacher ? { teacher: this.teacher.tensors } : {}),
    };
  }

  restore(groups: Record<string, Map<string, Tensor>>, step: number): void {
    const load = (name: string, targets: ReadonlyMap<string, Tensor>) => {
      const source = groups[name];
      for (const [key, target] of targets) {
        const value = source?.get(key);
        if (!value) throw new FormatError('train', `the checkpoint lacks '${name}/${key}'`);
        copyInto(target, value);
      }
    };
    load('model', this.net.stateDict());
    load('ema', this.ema.tensors);
    if (this.teacher) load('teacher', this.teacher.tensors);
    this.optimizer.loadStateDict({ tensors: groups.optimizer ?? new Map(), step });
  }

  dispose(): void {
    this.recorded?.run.dispose();
    this.optimizer.dispose();
    this.ema.dispose();
    this.teacher?.dispose();
  }
}

interface SavedState {
  config: TrainConfig;
  stage: number;
  /** Steps made of this stage. */
  step: number;
  generator: GeneratorState;
}

/** What of a configuration decides the result; the rest may change between a stop and its resumption. */
function essence({ checkpointEvery: _, logEvery: __, ...rest }: TrainConfig): string {
  return JSON.stringify(rest);
}

/** Sums of loss terms on the device, read once a line. */
class Means {
  private sums = new Map<string, Tensor>();
  private count = 0;

  constructor(private readonly device: string) {}

  add(terms: Record<string, Tensor>): void {
    for (const [name, term] of Object.entries(terms)) {
      const before = this.sums.get(name) ?? keep(zeros([], { device: this.device }));
      this.sums.set(name, keep(tidy(() => before.add(term))));
      before.dispose();
      term.dispose();
    }
    this.count += 1;
  }

  async take(): Promise<Record<string, number>> {
    const { sums, count } = this;
    this.sums = new Map();
    this.count = 0;
    const means: Record<string, number> = {};
    try {
      for (const [name, sum] of sums) means[name] = (await sum.item()) / count;
    } finally {
      dispose(sums);
    }
    return means;
  }

  dispose(): void {
    dispose(this.sums);
  }
}

/**
 * Trains a {@link DiT} on `data` as `config` says, on the device that holds the data. Its random numbers are those of any device.
 *
 * @throws ArgumentError for a bad configuration; FormatError if the checkpoint to resume from is not this run's;
 * NumericalError, with the last checkpoint intact, if a loss is not finite
 */
export async function train(given: TrainConfig, data: Dataset, options: TrainOptions): Promise<TrainResult> {
  const config = validateConfig(given);
  await mkdir(options.out, { recursive: true });
  const generator = new Generator(config.seed);
  const net = new DiT({ ...config.model, generator });
  const metrics = new MetricsWriter(join(options.out, 'metrics.jsonl'));
  try {
    return await trainNetwork(net.to({ device: data.images.device }), generator, config, data, metrics, options);
  } catch (error) {
    net.dispose();
    throw error;
  } finally {
    await metrics.close();
  }
}

async function trainNetwork(
  net: DiT,
  generator: Generator,
  config: TrainConfig,
  data: Dataset,
  metrics: MetricsWriter,
  options: TrainOptions,
): Promise<TrainResult> {
  const { checkpointEvery = 1000, logEvery = 20 } = config;
  const { out, signal, onMetrics, record = true } = options;
  const checkpoint = join(out, 'checkpoint.safetensors');
  const { device } = data.images;
  const total = config.stages.reduce((sum, stage) => sum + stage.steps, 0);
  const resumed = options.resume ? await loadCheckpoint(checkpoint) : null;
  const saved = resumed ? (resumed.state as unknown as SavedState) : null;
  if (saved && essence(saved.config) !== essence(config)) {
    dispose(Object.values(resumed!.tensors));
    throw new FormatError('train', `${checkpoint} is of a run with another configuration`);
  }
  const firstStage = saved?.stage ?? 0;
  if (firstStage > config.stages.length)
    throw new ArgumentError('train', `${checkpoint} names a stage that is not there`);
  let done = config.stages.slice(0, firstStage).reduce((sum, stage) => sum + stage.steps, 0) + (saved?.step ?? 0);
  await metrics.truncateTo(done);
  const progress = new Progress({ label: 'training', total, start: done, quiet: options.quiet });
  const seconds = config.stages.map(() => 0);
  const started = performance.now();
  let finished = true;

  for (let index = firstStage; index < config.stages.length && finished; index++) {
    const stage = config.stages[index]!;
    const state = new StageState(net, stage, generator, data.labels, record);
    const means = new Means(device);
    try {
      const stageStarted = performance.now();
      let at = 0;
      if (resumed && saved && index === firstStage) {
        at = saved.step;
        state.restore(resumed.tensors, at);
        generator.state = saved.generator;
        dispose(Object.values(resumed.tensors));
      }
      const save = (stageIndex: number, step: number, groups: Record<string, ReadonlyMap<string, Tensor>>) => {
        const snapshot: SavedState = { config, stage: stageIndex, step, generator: generator.state };
        return saveCheckpoint(checkpoint, { tensors: groups, state: snapshot as unknown as JsonValue });
      };
      let lr = 0;
      const log = async () => {
        const terms = (await means.take()) as { loss: number };
        const line: StepMetrics = {
          step: done,
          stage: index,
          ...terms,
          lr,
          seconds: (performance.now() - started) / 1000,
        };
        metrics.append(line);
        onMetrics?.(line);
        progress.update(done, `${stage.objective} ${line.loss.toFixed(4)}`);
      };
      while (at < stage.steps) {
        const result = state.step(data, at);
        lr = result.lr;
        means.add(result.terms);
        at += 1;
        done += 1;
        await nextTick(); // signals are heard, and what was dropped is collected
        const stopping = signal?.aborted ?? false;
        if (at % logEvery === 0 || at === stage.steps) await log();
        if (at === stage.steps) break;
        if (stopping || at % checkpointEvery === 0) {
          await metrics.flush(); // first: what comes after a checkpoint is written again, what came before is not
          await save(index, at, state.groups());
        }
        if (stopping) {
          finished = false;
          break;
        }
      }
      seconds[index] = (performance.now() - stageStarted) / 1000;
      if (finished) {
        for (const [name, target] of net.namedParameters()) copyInto(target, state.ema.tensors.get(name)!);
        const last = index === config.stages.length - 1;
        const groups = { model: net.stateDict(), ema: state.ema.tensors };
        await metrics.flush();
        await saveCheckpoint(join(out, `stage${index}.safetensors`), {
          tensors: groups,
          state: { config, stage: index, step: at } as unknown as JsonValue,
        });
        if (last) {
          await save(index + 1, 0, groups);
        } else {
          const next = new StageState(net, config.stages[index + 1]!, generator, data.labels, false);
          await save(index + 1, 0, next.groups());
          next.dispose();
        }
      }
    } finally {
      state.dispose();
      means.dispose();
    }
  }
  progress.finish();
  if (saved && firstStage === config.stages.length) {
    net.loadStateDict(resumed!.tensors.model!);
    dispose(Object.values(resumed!.tensors));
  }
  return { finished, step: done, checkpoint, net, seconds };
}
