// The page a run leaves: one file, nothing loaded from elsewhere.
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';

export interface Cloud {
  name: string;
  note: string;
  /** [n, 2], row-major. */
  points: Float32Array;
}

export interface Report {
  clouds: Cloud[];
  /** Sliced Wasserstein distance in one jump, and between two draws of the data. */
  distance: number;
  floor: number;
  /** [step, terminal term, flow matching term] */
  losses: [number, number, number][];
  seconds: number;
  steps: number;
  batch: number;
  seed: number;
  parameters: number;
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

function chart(losses: Report['losses']): string {
  const [width, height, left, bottom] = [1040, 220, 48, 26];
  const last = losses.at(-1)![0];
  const values = losses.flatMap(([, terminal, matching]) => [terminal, matching]).sort((a, b) => a - b);
  // The first steps start so high that they would flatten the rest.
  const top = values[Math.floor(0.98 * (values.length - 1))]! * 1.1;
  const px = (x: number) => left + (x / last) * (width - left - 8);
  const py = (y: number) => 8 + (1 - Math.min(y, top) / top) * (height - bottom - 8);
  const line = (colour: string, pick: 1 | 2) =>
    `<polyline fill="none" stroke="${colour}" stroke-width="1.6" points="${losses.map((row) => `${px(row[0]).toFixed(1)},${py(row[pick]).toFixed(1)}`).join(' ')}"/>`;
  const grid = [0, 0.5, 1].map((share) => {
    const y = py(share * top);
    return `<line x1="${left}" x2="${width - 8}" y1="${y}" y2="${y}"/><text x="${left - 8}" y="${y + 4}" text-anchor="end">${(share * top).toFixed(2)}</text>`;
  });
  const marks = [0, 0.5, 1].map((share) => {
    const anchor = share === 0 ? 'start' : share === 1 ? 'end' : 'middle';
    return `<text x="${px(share * last)}" y="${height - 6}" text-anchor="${anchor}">${Math.round(share * last)}</text>`;
  });
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Loss over steps">${grid.join('')}${marks.join('')}${line('#0b6e99', 2)}${line('#c2571a', 1)}</svg>`;
}

const style = `
:root { color-scheme: light; --ink: #1d2228; --soft: #667; --line: #dde1e6; --accent: #0b6e99; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1120px; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: #fff; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 40px 0 12px; }
p { max-width: 72ch; margin: 0 0 16px; }
.lead { font-size: 18px; color: #333a42; }
.clouds { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 24px; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: 15px; margin-bottom: 8px; }
figcaption small { display: block; font-weight: 400; color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg line { stroke: var(--line); }
.cloud { border: 1px solid var(--line); border-radius: 8px; }
.cloud path { stroke: var(--accent); stroke-width: 4.5; stroke-linecap: round; stroke-opacity: 0.6; fill: none; }
.key { color: var(--soft); font-size: 13px; } .key i { display: inline-block; width: 14px; height: 3px; margin: 0 5px 0 0; vertical-align: middle; border-radius: 2px; }
`;

export async function writeReport(path: string, report: Report): Promise<void> {
  const figures = report.clouds.map(
    ({ name, note, points }) =>
      `<figure><figcaption>${name}<small>${note}</small></figcaption>${scatter(points)}</figure>`,
  );
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowmap: eight Gaussians in one step</title><style>${style}</style></head><body>
<h1>Eight Gaussians in one jump</h1>
<p class="lead">A flow map of ${(report.parameters / 1000).toFixed(0)} thousand parameters, trained for ${report.seconds.toFixed(1)} seconds on this machine's processor, carries noise to the data in one evaluation: sliced Wasserstein distance ${report.distance.toFixed(3)}, where two draws of the data themselves differ by ${report.floor.toFixed(3)}.</p>
<h2>Samples</h2>
<p>All samplers start from the same noise and use the same network. Euler's method follows its velocity F(x, t, t); in one step that can only reach the mean of the data.</p>
<div class="clouds">${figures.join('')}</div>
<h2>Training</h2>
<p class="key"><i style="background:#c2571a"></i>terminal term &ensp; <i style="background:#0b6e99"></i>flow matching term</p>
${chart(report.losses)}
<p>${report.steps} steps of Terminal Velocity Matching (arXiv 2511.19797) from scratch, batches of ${report.batch}, seed ${report.seed}, ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}.</p>
</body></html>
`;
  await writeFile(path, html);
}
