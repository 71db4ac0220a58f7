// The figures of a run as rows of text, for the page and for Markdown alike.
import { growthCells } from '../support/growth';
import type { Ceilings } from '../support/measure';
import type { Figure, Run } from '../support/runFile';
import { formatBytes, formatShare, formatStepRate, formatTime, shareOf } from '../support/table';

export interface FamilyTable {
  family: string;
  header: string[];
  groups: { title: string; rows: { figure: Figure; cells: string[] }[] }[];
}

/** 4.2e11, 'FLOP/s' as '420 GFLOP/s'. */
export function formatRate(rate: number, unit: string): string {
  const [scale, prefix] = rate >= 1e13 ? [1e12, 'T'] : [1e9, 'G'];
  const value = rate / scale;
  return `${value.toFixed(value >= 100 ? 0 : value >= 1 ? 1 : 3)} ${prefix}${unit}`;
}

interface Column {
  title: string;
  /** Nothing where the figure has none. */
  cell: (figure: Figure) => string | number | undefined;
}

function columnsOf(ceilings: Ceilings, figures: readonly Figure[]): Column[] {
  const growth = growthCells(figures);
  return [
    { title: 'Work', cell: ({ name }) => name.trim() },
    { title: 'Median', cell: ({ seconds }) => formatTime(seconds.median) },
    { title: 'p10 – p90', cell: ({ seconds }) => `${formatTime(seconds.p10)} – ${formatTime(seconds.p90)}` },
    { title: 'Growth of time', cell: (figure) => growth.get(figure)?.law },
    { title: 'Parallel efficiency', cell: (figure) => growth.get(figure)?.efficiency },
    { title: 'Launch', cell: ({ launchSeconds }) => launchSeconds && formatTime(launchSeconds) },
    { title: 'Operations', cell: ({ flops, seconds }) => flops && formatRate(flops / seconds.median, 'FLOP/s') },
    { title: 'Bytes', cell: ({ bytes, seconds }) => bytes && formatRate(bytes / seconds.median, 'B/s') },
    { title: 'Steps', cell: ({ steps, seconds }) => steps && formatStepRate(steps / seconds.median) },
    {
      title: 'Share of the ceiling',
      cell: (figure) => {
        const reached = figure.family === 'ceilings' ? undefined : shareOf(figure, figure.seconds.median, ceilings);
        return reached && formatShare(reached);
      },
    },
    { title: 'Peak memory', cell: ({ peakBytes }) => (peakBytes === undefined ? undefined : formatBytes(peakBytes)) },
    { title: 'Error against float64', cell: ({ error }) => error?.toExponential(1) },
    { title: 'Time over flowmap’s', cell: ({ timesFlowmap }) => timesFlowmap && `${timesFlowmap.toFixed(2)} ×` },
    { title: 'Differs by', cell: ({ difference }) => difference?.toExponential(1) },
  ];
}

/** A table per family, of the columns that it has anything in. */
export function tablesOf({ results, ceilings }: Run): FamilyTable[] {
  return [...new Set(results.map(({ family }) => family))].map((family) => {
    const figures = results.filter((figure) => figure.family === family);
    const columns = columnsOf(ceilings, figures).filter(({ cell }) => figures.some((figure) => cell(figure)));
    const titles = [...new Set(figures.map(({ group }) => group ?? ''))];
    return {
      family,
      header: columns.map(({ title }) => title),
      groups: titles.map((title) => ({
        title,
        rows: figures
          .filter(({ group }) => (group ?? '') === title)
          .map((figure) => ({ figure, cells: columns.map(({ cell }) => String(cell(figure) || '')) })),
      })),
    };
  });
}
