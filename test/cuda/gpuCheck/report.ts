// What gpu:check leaves: one JSON file named by device, date and commit, and a summary to read.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { root } from '../../support/build';
import { exitStatus, type StepReport } from './step';

export interface Report {
  /** A dry run on the emulator says so first of all: it is no result of a GPU. */
  emulated: boolean;
  device: string;
  date: string;
  commit: string;
  /** The steps that were asked for, where not all were. */
  only?: string[];
  /** Steps still to come when this was written; empty at the end. */
  pending: string[];
  steps: StepReport[];
}

export type Head = Pick<Report, 'emulated' | 'device' | 'date' | 'commit'>;

const slug = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');

/** `<device>-<date>-<commit>`, 'emulated' in the place of a device. */
export function stem({ emulated, device, date, commit }: Head): string {
  return [emulated ? 'emulated' : slug(device) || 'no-gpu', date.slice(0, 10), slug(commit)].join('-');
}

/** Written after each step, so that what is killed leaves what it found; renamed, so that nobody reads half a file. */
export function writeReport(folder: string, report: Report): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, [stem(report), ...(report.only ? [report.only.join('-')] : []), 'json'].join('.'));
  // Where this checkout lies is nobody's business.
  const text = JSON.stringify(report, null, 2).replaceAll(`${root}${sep}`, '');
  writeFileSync(`${path}.part`, `${text}\n`);
  renameSync(`${path}.part`, path);
  return path;
}

export function stepLines({ name, outcome, seconds, limitSeconds, summary }: StepReport): string[] {
  const limit = outcome === 'timed out' ? ` of ${limitSeconds} s` : '';
  return [`${name}: ${outcome} (${seconds} s${limit})`, ...summary.map((line) => `  ${line}`)];
}

export function verdict(report: Report): string {
  const of = (wanted: string) => report.steps.filter(({ outcome }) => outcome === wanted).map(({ name }) => name);
  const parts = (['passed', 'failed', 'timed out', 'absent'] as const)
    .map((outcome) => [outcome, of(outcome)] as const)
    .filter(([, names]) => names.length > 0)
    .map(([outcome, names]) => `${outcome}: ${names.join(', ')}`);
  const status = exitStatus(report.steps.map(({ outcome }) => outcome));
  const what = report.emulated ? 'dry run on the emulator, no result of a GPU' : report.device || 'no GPU';
  return `gpu:check (${what}) ${parts.join('; ')}; exit status ${status}`;
}
