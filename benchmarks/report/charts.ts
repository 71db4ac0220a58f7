// Charts as SVG: points and lines on two log axes, and bars. Bars are laid out in percent and pixels, so that their text stays
// as large on a phone; plots scale.

export const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** Told apart by colour, then by shape. */
export interface Series {
  label: string;
  points: { x: number; y: number; title: string }[];
  /** Joined by a line. */
  line?: { x: number; y: number }[];
}

export interface Plot {
  title: string;
  note?: string;
  /** `ticks`: the sizes themselves, where they are few. */
  x: { label: string; format: (value: number) => string; ticks?: readonly number[] };
  y: { label: string; format: (value: number) => string };
  series: Series[];
  /** Lines above everything, as ceilings. */
  roof?: { x: number; y: number }[];
}

const colours = 8;
const [width, height, left, right, top, bottom] = [520, 336, 66, 14, 34, 50];

/** At least two round values in the range, few enough to be read: 1, 2, 5 or decades apart. */
export function logTicks(low: number, high: number): number[] {
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  const inside = (values: number[]) => values.filter((v) => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9));
  const decades = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const apart = Math.max(1, Math.ceil(decades.length / 6));
  const whole = inside(decades.filter((_, i) => i % apart === 0).map((k) => 10 ** k));
  if (whole.length >= 3) return whole;
  return inside(decades.flatMap((k) => [1, 2, 5].map((m) => m * 10 ** k)));
}

function markOf(i: number, x: number, y: number, title = ''): string {
  const r = 4.5;
  const corners = [
    [],
    [-0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9],
    [0, -1.2, 1.1, 0.8, -1.1, 0.8],
    [0, -1.3, 1.3, 0, 0, 1.3, -1.3, 0],
  ][Math.floor(i / colours) % 4]!;
  const style = `class="mark" style="fill:var(--c${i % colours})"`;
  const inner = title === '' ? '' : `<title>${escapeHtml(title)}</title>`;
  if (corners.length === 0)
    return `<circle ${style} cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${r}">${inner}</circle>`;
  const points = corners.map((corner, j) => ((j % 2 === 0 ? x : y) + corner * r).toFixed(1));
  return `<polygon ${style} points="${points.join(' ')}">${inner}</polygon>`;
}

function legend(series: readonly Series[]): string {
  return series
    .map(
      ({ label }, i) =>
        `<span><svg class="key" viewBox="0 0 12 12">${markOf(i, 6, 6)}</svg>${escapeHtml(label)}</span>`,
    )
    .join(' ');
}

export function plot({ title, note, x, y, series, roof = [] }: Plot): string {
  const drawn = [...series.flatMap(({ points }) => points), ...roof];
  const range = (values: number[], slack: number) =>
    [Math.min(...values) / slack, Math.max(...values) * slack] as const;
  const [x0, x1] = range(
    drawn.map((point) => point.x),
    1.15,
  );
  const [y0, y1] = range(
    drawn.map((point) => point.y),
    1.3,
  );
  const px = (value: number) => left + (Math.log(value / x0) / Math.log(x1 / x0)) * (width - left - right);
  const py = (value: number) => top + (1 - Math.log(value / y0) / Math.log(y1 / y0)) * (height - top - bottom);
  const at = (point: { x: number; y: number }) => `${px(point.x).toFixed(1)},${py(point.y).toFixed(1)}`;
  const rows = logTicks(y0, y1).map(
    (v) =>
      `<line x1="${left}" x2="${width - right}" y1="${py(v).toFixed(1)}" y2="${py(v).toFixed(1)}"/><text x="${left - 8}" y="${(py(v) + 4).toFixed(1)}" text-anchor="end">${escapeHtml(y.format(v))}</text>`,
  );
  const columns = (x.ticks ?? logTicks(x0, x1)).map(
    (v) =>
      `<line x1="${px(v).toFixed(1)}" x2="${px(v).toFixed(1)}" y1="${top}" y2="${height - bottom}"/><text x="${px(v).toFixed(1)}" y="${height - bottom + 18}" text-anchor="middle">${escapeHtml(x.format(v))}</text>`,
  );
  const lines = series.map(({ line }, i) =>
    line ? `<polyline class="fit" style="stroke:var(--c${i % colours})" points="${line.map(at).join(' ')}"/>` : '',
  );
  const ceiling = roof.length > 0 ? `<polyline class="roof" points="${roof.map(at).join(' ')}"/>` : '';
  const marks = series.flatMap(({ points }, i) =>
    points.map((point) => markOf(i, px(point.x), py(point.y), point.title)),
  );
  const axes = `<text x="${(left + width - right) / 2}" y="${height - 8}" text-anchor="middle">${escapeHtml(x.label)}</text><text x="0" y="14">${escapeHtml(y.label)}</text>`;
  return `<figure><figcaption>${escapeHtml(title)}<small>${note ? `${escapeHtml(note)}<br>` : ''}${legend(series)}</small></figcaption><svg class="plot" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(title)}">${rows.join('')}${columns.join('')}${ceiling}${lines.join('')}${marks.join('')}${axes}</svg></figure>`;
}

export interface Bar {
  label: string;
  value: number;
  text: string;
  /** Not flowmap's. */
  other?: boolean;
}

const step = 36;

/** Labelled bars from zero; `mark` is a value to be seen across all of them. */
export function bars(title: string, items: readonly Bar[], most: number, mark?: number): string {
  const share = (value: number) => `${((100 * value) / most).toFixed(2)}%`;
  const rows = items.map(({ label, value, text, other }, i) => {
    const y = i * step;
    return `<text x="0" y="${y + 14}">${escapeHtml(label)}</text><text class="value" x="100%" y="${y + 14}" text-anchor="end">${escapeHtml(text)}</text><rect class="track" x="0" y="${y + 20}" width="100%" height="8" rx="2"/><rect class="${other ? 'other' : 'ours'}" x="0" y="${y + 20}" width="${share(value)}" height="8" rx="2"/>`;
  });
  const line =
    mark === undefined || mark >= most
      ? ''
      : items
          .map(
            (_, i) =>
              `<line class="at" x1="${share(mark)}" x2="${share(mark)}" y1="${i * step + 18}" y2="${i * step + 30}"/>`,
          )
          .join('');
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><svg class="bars" width="100%" height="${items.length * step}" role="img" aria-label="${escapeHtml(title)}">${rows.join('')}${line}</svg></figure>`;
}
