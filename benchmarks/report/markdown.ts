// The figures of a run as Markdown tables, for benchmarks/results.
import { headOf } from '../support/diff';
import type { Run } from '../support/runFile';
import { tablesOf } from './tables';

const escapeCell = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('|', '\\|').replaceAll('<', '&lt;');
const line = (cells: readonly string[]) => `| ${cells.map(escapeCell).join(' | ')} |`;

export function markdownOf(run: Run): string {
  const tables = tablesOf(run).map(({ family, header, groups }) => {
    const titled = groups.some(({ title }) => title !== '');
    const rows = groups.flatMap(({ title, rows: members }) =>
      members.map(({ figure, cells }, i) => {
        const [work, ...rest] = cells as [string, ...string[]];
        return line([...(titled ? [i === 0 ? title : ''] : []), figure.peerOf ? `– ${work}` : work, ...rest]);
      }),
    );
    const names = [...(titled ? ['Group'] : []), ...header];
    const rule = names.map((_, i) => (i < (titled ? 2 : 1) ? '---' : '---:'));
    return [`## ${family}`, '', line(names), `| ${rule.join(' | ')} |`, ...rows].join('\n');
  });
  const head = headOf(run).map(
    ([label, value]) => `- ${label}: ${label === 'command' ? `\`${value}\`` : escapeCell(value)}`,
  );
  return `${['# flowmap benchmarks', head.join('\n'), ...tables].join('\n\n')}\n`;
}
