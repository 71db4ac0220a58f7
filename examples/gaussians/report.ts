// The page a run leaves: one file, nothing loaded from elsewhere.
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { pageStyle } from '../pageStyle';

export interface Cloud {
  name: string;
  /** [n, 2], row-major. */
  points: Float32Array;
  /** Sliced Wasserstein distance to the data. */
  distance: number;
  /** Share of points near a mode, and how many of the eight modes have their points. */
  near: number;
  modes: number;
}

export interface Result {
  name: string;
  short: string;
  paper: string;
  /** By rising number of steps, from one. */
  clouds: Cloud[];
  /** What the loss consists of, and [step, value of each]. */
  terms: string[];
  losses: number[][];
  batch: number;
  seconds: number;
  parameters: number;
}

export interface Report {
  results: Result[];
  euler: Cloud[];
  data: Float32Array;
  /** Distance between two draws of the data. */
  floor: number;
  steps: number;
  seed: number;
}

function scatter(points: Float32Array, shown = 2000): string {
  // Coordinates in hundredths: short numbers keep the page small.
  const marks: string[] = [];
  for (let i = 0; i < Math.min(shown, points.length / 2); i++) {
    const [x, y] = [Math.round(100 * points[2 * i]!), Math.round(-100 * points[2 * i + 1]!)];
    if (Math.abs(x) <= 250 && Math.abs(y) <= 250) marks.push(`M${x} ${y}h0`);
  }
  return `<svg class="cloud" viewBox="-250 -250 500 500" role="img"><path d="${marks.join('')}"/></svg>`;
}

const colours = ['#c2571a', '#0b6e99'];

function chart({ name, losses, terms }: Result): string {
  const [width, height, left, bottom] = [520, 220, 48, 26];
  const last = Math.max(1, losses.at(-1)![0]!);
  const values = losses.flatMap(([, ...terms]) => terms).sort((a, b) => a - b);
  // The first steps start so high that they would flatten the rest.
  const top = values[Math.floor(0.98 * (values.length - 1))]! * 1.1;
  const px = (x: number) => left + (x / last) * (width - left - 8);
  const py = (y: number) => 8 + (1 - Math.min(y, top) / top) * (height - bottom - 8);
  const line = (term: number) =>
    `<polyline fill="none" stroke="${colours[term]}" stroke-width="1.4" points="${losses.map((row) => `${px(row[0]!).toFixed(1)},${py(row[term + 1]!).toFixed(1)}`).join(' ')}"/>`;
  const grid = [0, 0.5, 1].map((share) => {
    const y = py(share * top);
    return `<line x1="${left}" x2="${width - 8}" y1="${y}" y2="${y}"/><text x="${left - 8}" y="${y + 4}" text-anchor="end">${(share * top).toFixed(2)}</text>`;
  });
  const marks = [0, 0.5, 1].map((share) => {
    const anchor = share === 0 ? 'start' : share === 1 ? 'end' : 'middle';
    return `<text x="${px(share * last)}" y="${height - 6}" text-anchor="${anchor}">${Math.round(share * last)}</text>`;
  });
  const key = terms.map((term, i) => `<i style="background:${colours[i]}"></i>${term}`).join(' &ensp; ');
  const lines = terms.map((_, i) => line(i)).reverse();
  return `<figure><figcaption>${name}<small class="key">${key}</small></figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${name}: loss over steps">${grid.join('')}${marks.join('')}${lines.join('')}</svg></figure>`;
}

function figure(name: string, note: string, points: Float32Array): string {
  return `<figure><figcaption>${name}<small>${note}</small></figcaption>${scatter(points)}</figure>`;
}

const cloudFigure = ({ name, distance, modes, near, points }: Cloud) =>
  figure(
    name,
    `distance ${distance.toFixed(3)}, ${modes} of 8 modes, ${(100 * near).toFixed(0)} % of points near one`,
    points,
  );

const style = `${pageStyle}
h2 { font-size: 20px; margin: 40px 0 12px; }
h3 { font-size: 16px; margin: 20px 0 8px; }
p { max-width: 72ch; margin: 0 0 16px; }
.clouds { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 24px; margin-bottom: 28px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 24px; margin-bottom: 16px; }
figcaption small { display: block; font-weight: 400; color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.cloud { border: 1px solid var(--line); border-radius: 8px; }
.cloud path { stroke: var(--accent); stroke-width: 4.5; stroke-linecap: round; stroke-opacity: 0.6; fill: none; }
.key { color: var(--soft); font-size: 13px; } .key i { display: inline-block; width: 14px; height: 3px; margin: 0 5px 0 0; vertical-align: middle; border-radius: 2px; }
`;

function lead({ results, floor }: Report): string {
  const size = `${(results[0]!.parameters / 1000).toFixed(0)} thousand parameters`;
  const told = results.map(
    ({ name, seconds, clouds }) => `${clouds[0]!.distance.toFixed(3)} by ${name} (trained for ${seconds.toFixed(1)} s)`,
  );
  return `A flow map of ${size}, trained on this machine's processor, carries noise to the data in one evaluation. Its sliced Wasserstein distance to the data: ${told.join(', ')}. Two draws of the data themselves differ by ${floor.toFixed(3)}.`;
}

const eulerNote =
  " Euler's method follows the velocity F(x, t, t) of the network trained by Terminal Velocity Matching; in one step that can only reach the mean of the data.";

export async function writeReport(path: string, report: Report): Promise<void> {
  const { results, euler, data, floor, steps, seed } = report;
  const rows = results.map(
    ({ name, clouds }) => `<h3>${name}</h3><div class="clouds">${clouds.map(cloudFigure).join('')}</div>`,
  );
  const beside = [...euler.map(cloudFigure), figure('Data', `two draws differ by ${floor.toFixed(3)}`, data)];
  const trained = results.map(
    ({ name, paper, batch, seconds }) => `${name} (${paper}): batches of ${batch}, ${seconds.toFixed(1)} s.`,
  );
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowmap: eight Gaussians in one step</title><style>${style}</style></head><body>
<h1>Eight Gaussians in one jump</h1>
<p class="lead">${lead(report)}</p>
<h2>Samples</h2>
<p>All samplers start from the same noise.${euler.length > 0 ? eulerNote : ''}</p>
${rows.join('\n')}
<h3>For comparison</h3><div class="clouds">${beside.join('')}</div>
<h2>Training</h2>
<p>Loss over steps, ${results.length > 1 ? 'each objective on a scale of its own: the two losses measure different things' : 'read every tenth step'}.</p>
<div class="charts">${results.map(chart).join('')}</div>
<p>${steps} steps from scratch, seed ${seed}, the same network and optimizer. ${trained.join(' ')} ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}, one thread used.</p>
</body></html>
`;
  await writeFile(path, html);
}
