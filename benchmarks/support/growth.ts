// How time grows along the lines that `scaling` draws through a run: the fitted exponent of each, and what more threads
// are worth.
import { fitPower, type PowerLaw } from '../report/fit';
import type { Figure } from './runFile';
import { alignColumns } from './table';

/** Sized rows of the same work, smallest first. */
export interface GrowthLine {
  series: string;
  variable: string;
  name: string;
  figures: Figure[];
  law: PowerLaw;
}

const sizeOf = ({ scaling }: Figure) => scaling!.value;
const nameOf = ({ name }: Figure) => name.trim();

/** All lines of at least two sizes, in order of appearance. */
export function growthOf(figures: readonly Figure[]): GrowthLine[] {
  const lines = new Map<string, Figure[]>();
  for (const figure of figures) {
    if (!figure.scaling) continue;
    const { series, variable } = figure.scaling;
    const key = JSON.stringify([figure.family, variable, series, nameOf(figure)]);
    lines.set(key, [...(lines.get(key) ?? []), figure]);
  }
  return [...lines.values()].flatMap((members) => {
    const law = fitPower(members.map((figure) => [sizeOf(figure), figure.seconds.median] as const));
    if (!law) return [];
    const { series, variable } = members[0]!.scaling!;
    const sorted = [...members].sort((a, b) => sizeOf(a) - sizeOf(b));
    return [{ series, variable, name: nameOf(members[0]!), figures: sorted, law }];
  });
}

/** Small sizes are bound by other things than large ones, so what the last two tell stands beside the fit of all. */
export function formatLaw({ variable, law, figures }: GrowthLine): string {
  const last = fitPower(figures.slice(-2).map((figure) => [sizeOf(figure), figure.seconds.median] as const));
  const fitted = `∝ ${variable}^${law.exponent.toFixed(2)}`;
  return figures.length > 3 && variable !== threadsVariable && last
    ? `${fitted}, at the end ^${last.exponent.toFixed(2)}`
    : fitted;
}

export const formatEfficiency = (efficiency: number): string => `${(100 * efficiency).toFixed(0)} %`;

/** What a line along threads is called: its rows have an efficiency. */
export const threadsVariable = 'threads';

/** The share of what n threads could save at most that they do: the time on one thread over n times that on n. */
export function efficiencyOf(figure: Figure, { variable, figures }: GrowthLine): number | undefined {
  const one = figures.find((each) => sizeOf(each) === 1);
  if (variable !== threadsVariable || !one || figure === one) return undefined;
  return one.seconds.median / (sizeOf(figure) * figure.seconds.median);
}

/** What stands beside each row of the lines: the law beside that of the largest size, efficiencies beside each. */
export function growthCells(figures: readonly Figure[]): Map<Figure, { law?: string; efficiency?: string }> {
  const cells = new Map<Figure, { law?: string; efficiency?: string }>();
  for (const line of growthOf(figures)) {
    for (const figure of line.figures) {
      const efficiency = efficiencyOf(figure, line);
      cells.set(figure, {
        ...(figure === line.figures.at(-1) ? { law: formatLaw(line) } : {}),
        ...(efficiency === undefined ? {} : { efficiency: formatEfficiency(efficiency) }),
      });
    }
  }
  return cells;
}

/** Prints the lines of a family, where it has any. */
export function printGrowth(figures: readonly Figure[]): void {
  const rows = growthOf(figures).map((line) => {
    const efficiencies = line.figures.flatMap((figure) => {
      const efficiency = efficiencyOf(figure, line);
      return efficiency === undefined ? [] : [`${formatEfficiency(efficiency)} of ${sizeOf(figure)}`];
    });
    const range = `${line.variable} ${sizeOf(line.figures[0]!)} … ${sizeOf(line.figures.at(-1)!)}`;
    return [line.series, line.name, range, formatLaw(line), efficiencies.join(', ')];
  });
  if (rows.length === 0) return;
  console.log('\ntime as the work grows');
  for (const row of alignColumns(rows)) console.log(`  ${row}`);
}
