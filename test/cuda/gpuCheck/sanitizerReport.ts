// Reads what compute-sanitizer prints.

export interface SanitizerFindings {
  /** Undefined where it printed no summary: it did not get to the end. */
  errors?: number;
  /** Of racecheck: hazards that it does not call errors. */
  warnings?: number;
  /** The first reports, as printed. */
  reports: string[];
}

const prefix = /^=========\s?/;
// Around the reports.
const frame = /^(COMPUTE-SANITIZER|ERROR SUMMARY|RACECHECK SUMMARY)/;

export function readFindings(output: string, keep = 5): SanitizerFindings {
  const own = output.split('\n').filter((line) => prefix.test(line));
  const lines = own.map((line) => line.replace(prefix, ''));
  const plain = lines.map((line) => /^ERROR SUMMARY: (\d+) error/.exec(line)).find(Boolean);
  const races = lines
    .map((line) => /^RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warnings?\)/.exec(line))
    .find(Boolean);
  const found = races ?? plain;
  const reports: string[] = [];
  let current: string[] = [];
  for (const line of [...lines, '']) {
    if (line.trim() !== '' && !frame.test(line)) {
      current.push(line);
      continue;
    }
    if (current.length > 0) reports.push(current.slice(0, 12).join('\n'));
    current = [];
  }
  return {
    ...(found ? { errors: Number(found[1]) } : {}),
    ...(races ? { warnings: Number(races[2]) } : {}),
    reports: reports.slice(0, keep),
  };
}
