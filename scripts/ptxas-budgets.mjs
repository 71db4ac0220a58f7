// What ptxas gives each CUDA kernel (registers, shared memory, spills) against csrc/cuda/budgets.json: growth fails, and so
// does a spill that the file does not list with a reason. --write renews the figures and keeps the reasons. --report file
// [--targets sm_80,…] [--only pattern] writes those of any targets and sources down instead, and judges nothing. --quick
// judges on sm_90a only the kernels that sm_80 has not. What ptxas said when build/ was made is taken where it fits. Where there is
// a disassembler, the instructions of the kernels for Hopper are counted as well (sass.mjs).
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { countInstructions, findDisassembler, judgeInstructions } from './sass.mjs';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const budgetFile = join(root, 'csrc/cuda/budgets.json');
const { values: options } = parseArgs({
  options: {
    write: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    report: { type: 'string' },
    targets: { type: 'string', default: 'sm_80,sm_90a' },
    only: { type: 'string', default: '' },
  },
});
if (options.report === undefined && (options.targets !== 'sm_80,sm_90a' || options.only)) {
  throw new Error('ptxas budgets: --targets and --only go with --report');
}
if (options.quick && (options.write || options.report !== undefined)) {
  throw new Error('ptxas budgets: --quick goes with neither --write nor --report');
}
const targets = options.targets.split(',');

const nvcc = [process.env.NVCC, '/usr/local/cuda/bin/nvcc', '/usr/bin/nvcc'].find((path) => path && existsSync(path));
if (!nvcc) {
  console.log('ptxas budgets: skipped, there is no nvcc (NVCC names one)');
  process.exit(0);
}

const version = (await run(nvcc, ['--version'])).stdout.trimEnd();
/** What nvcc calls its build: the same compiler under any path. */
const compiler = version.slice(version.lastIndexOf('\n') + 1);

const disassembler = findDisassembler(nvcc);

/** A kernel's name and template arguments, without what differs from build to build or is the same for all. */
function stableName(demangled) {
  const name = demangled
    .replace(/_GLOBAL__N__\w+::|\(anonymous namespace\)::/g, '')
    .replace(/flowmap::(cuda::)?/g, '')
    .replace(/^void /, '');
  let depth = 0;
  for (const [i, letter] of [...name].entries()) {
    if (letter === '<') depth++;
    if (letter === '>') depth--;
    if (letter === '(' && depth === 0) return name.slice(0, i);
  }
  return name;
}

// binutils come with every compiler nvcc can use.
function demangle(names) {
  const { stdout, error } = spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (error) throw error;
  return stdout.trimEnd().split('\n');
}

/** ptxas -v's report on `target`: { name, registers, shared, stack, spills, serialized } per kernel. */
function parse(report, target) {
  const kernels = [];
  let kernel = null;
  for (const line of report.split('\n')) {
    const entry = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line);
    if (entry) {
      kernel = entry[2] === target ? { name: entry[1], registers: 0, shared: 0, stack: 0, spills: 0 } : null;
      if (kernel) kernels.push(kernel);
    }
    if (!kernel) continue;
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame) {
      // Functions a kernel calls are reported after it, and their frames count as its.
      kernel.stack += Number(frame[1]);
      kernel.spills += Number(frame[2]) + Number(frame[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used) {
      kernel.registers = Number(used[1]);
      kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  // Where ptxas cannot keep registers still, it waits for each product of wgmma before the next.
  const serialized = [...report.matchAll(/wgmma\S* instructions are serialized [^']*'([^']+)'/g)].map(
    ([, name]) => name,
  );
  return kernels.map((kernel) => ({ ...kernel, serialized: serialized.includes(kernel.name) }));
}

/** What ptxas said of `source` when build/ was made, where that was for `target`, by this nvcc, and nothing has changed since. */
function reportOfBuild(source, target) {
  const object = join(root, 'build/cuda', `${relative(join(root, 'csrc/cuda'), source)}.o`);
  const report = `${object}.ptxas`;
  if (!existsSync(report) || !existsSync(`${object}.d`)) return null;
  const needed = readFileSync(`${object}.d`, 'utf8').replaceAll('\\\n', ' ').split(/\s+/).slice(1);
  const files = needed.filter((name) => name.startsWith(root));
  const made = statSync(report).mtimeMs;
  if (files.some((name) => !existsSync(name) || statSync(name).mtimeMs > made)) return null;
  const text = readFileSync(report, 'utf8');
  if (text.slice(0, text.indexOf('\n')) !== compiler) return null;
  return text.includes(`for '${target}'`) ? text : null;
}

async function measure(source, target, folder) {
  const output = join(folder, `${basename(source)}.${target}.cubin`);
  const flags = ['-std=c++20', '-O3', '-cubin', `-arch=${target}`, '-Xptxas', '-v', '-I', join(root, 'csrc')];
  const disassembled = disassembler && source.endsWith('_hopper.cu');
  const made = disassembled ? null : reportOfBuild(source, target);
  const report = made ?? (await run(nvcc, [...flags, source, '-o', output], { maxBuffer: 2 ** 28 })).stderr;
  const kernels = parse(report, target);
  if (kernels.length === 0) return [];
  const names = demangle(kernels.map(({ name }) => name));
  const instructions = disassembled
    ? countInstructions((await run(disassembler, ['-sass', output], { maxBuffer: 2 ** 30 })).stdout)
    : new Map();
  return kernels.map((kernel, i) => ({
    ...kernel,
    instructions: instructions.get(kernel.name),
    unlisted: Boolean(disassembled) && !instructions.has(kernel.name),
    name: `${basename(source)}: ${stableName(names[i])}`,
  }));
}

async function measureAll() {
  const sources = readdirSync(join(root, 'csrc/cuda'), { recursive: true })
    .filter((name) => name.endsWith('.cu') && new RegExp(options.only).test(name))
    .sort()
    .map((name) => join(root, 'csrc/cuda', name));
  // Clusters are of 9.0 and later, what is for Hopper of 9.0 alone (cmake/cuda.cmake): no such kernels for other targets.
  const has = (source, target) =>
    source.endsWith('_hopper.cu')
      ? target === 'sm_90a'
      : !source.endsWith('_cluster.cu') || Number(/\d+/.exec(target)[0]) >= 90;
  const wanted = (source, target) =>
    has(source, target) && !(options.quick && target === 'sm_90a' && has(source, 'sm_80'));
  const jobs = targets.flatMap((target) =>
    sources.filter((source) => wanted(source, target)).map((source) => ({ source, target })),
  );
  const measured = Object.fromEntries(targets.map((target) => [target, {}]));
  const folder = mkdtempSync(join(tmpdir(), 'flowmap-ptxas-'));
  const worker = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      for (const { name, ...figures } of await measure(job.source, job.target, folder)) {
        measured[job.target][name] = figures;
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(availableParallelism(), jobs.length) }, worker));
  } finally {
    rmSync(folder, { recursive: true });
  }
  return measured;
}

// ptxas of another release allots other figures: then only spills are judged.
const toolkit = /release ([\d.]+)/.exec(version)?.[1];
const budgets = existsSync(budgetFile) ? JSON.parse(readFileSync(budgetFile, 'utf8')) : { kernels: {}, spills: {} };
const measured = await measureAll();
const names = [...new Set(targets.flatMap((target) => Object.keys(measured[target])))].sort();

// One line per kernel: registers, bytes of shared memory, of stack and of spills, for each target in turn; null for one
// that it is not compiled for.
const figures = (kernel) => kernel && [kernel.registers, kernel.shared, kernel.stack, kernel.spills];
const figuresOf = (name) => targets.map((target) => figures(measured[target][name]) ?? null);
if (options.report !== undefined) {
  const kernels = names.map((name) => [name, figuresOf(name)]);
  const what = ['registers', 'shared bytes', 'stack bytes', 'spill bytes'];
  const lines = kernels.map(([name, found]) => `    ${JSON.stringify(name)}: ${JSON.stringify(found)}`);
  const head = { date: new Date().toISOString().slice(0, 10), toolkit, targets, figures: what };
  const text = JSON.stringify(head, null, 2).replace(/\n}$/, `,\n  "kernels": {\n${lines.join(',\n')}\n  }\n}\n`);
  writeFileSync(options.report, text);
  const spilling = kernels.filter(([, found]) => found.some((each) => each && each[3] > 0));
  console.log(
    `ptxas: ${names.length} kernels on ${targets.join(', ')}, ${spilling.length} of them spill: ${options.report}`,
  );
  process.exit(0);
}
if (options.write) {
  const lines = names.map(
    (name) => `    ${JSON.stringify(name)}: ${JSON.stringify(figuresOf(name)).replaceAll(',', ', ')}`,
  );
  const reasons = Object.fromEntries(Object.entries(budgets.spills).filter(([name]) => names.includes(name)));
  // Products and tensor copies; without a disassembler those of the same toolkit stay.
  const counts = names.flatMap((name) => {
    const found = targets.map((target) => measured[target][name]?.instructions).find(Boolean);
    const kept = budgets.toolkit === toolkit && !disassembler ? budgets.instructions?.[name] : undefined;
    const figures = found ? [found.products, found.copies] : kept;
    return figures ? [[name, figures]] : [];
  });
  const countLines = counts.map(([name, count]) => `    ${JSON.stringify(name)}: ${JSON.stringify(count)}`);
  const instructions = counts.length > 0 ? `  "instructions": {\n${countLines.join(',\n')}\n  },\n` : '';
  const what = ['registers', 'shared bytes', 'stack bytes', 'spill bytes'];
  writeFileSync(
    budgetFile,
    `{\n  "toolkit": ${JSON.stringify(toolkit)},\n  "targets": ${JSON.stringify(targets).replaceAll(',', ', ')},\n  "figures": ${JSON.stringify(what).replaceAll(',', ', ')},\n` +
      `  "spills": ${JSON.stringify(reasons, null, 2).replaceAll('\n', '\n  ')},\n${instructions}  "kernels": {\n${lines.join(',\n')}\n  }\n}\n`,
  );
}

const comparable = !options.write && budgets.toolkit === toolkit;
if (!options.write && !comparable) {
  console.log(`ptxas budgets: figures are of CUDA ${budgets.toolkit}, this is ${toolkit}: only spills are checked`);
}
const problems = [];
for (const name of names) {
  for (const [i, target] of targets.entries()) {
    const kernel = measured[target][name];
    if (!kernel) continue;
    if (kernel.spills > 0 && !budgets.spills[name]) {
      problems.push(`${target} ${name}: spills ${kernel.spills} bytes, and "spills" gives no reason`);
    }
    if (kernel.serialized) problems.push(`${target} ${name}: ptxas serializes its wgmma`);
    if (kernel.unlisted) problems.push(`${target} ${name}: ${disassembler} does not list it`);
    if (kernel.instructions) {
      const before = comparable ? budgets.instructions?.[name] : undefined;
      const wrong = judgeInstructions(name, kernel.instructions, before);
      problems.push(...wrong.map((problem) => `${target} ${name}: ${problem}`));
    }
    if (!comparable) continue;
    const budget = budgets.kernels[name]?.[i];
    if (!budget) {
      problems.push(`${target} ${name}: has no budget`);
      continue;
    }
    const what = ['registers', 'bytes of shared memory', 'bytes of stack', 'bytes of spills'];
    for (const [j, got] of figures(kernel).entries()) {
      if (got > budget[j]) problems.push(`${target} ${name}: ${got} ${what[j]}, budget ${budget[j]}`);
    }
  }
}
if (comparable) {
  for (const name of Object.keys(budgets.kernels)) {
    if (!names.includes(name)) problems.push(`${name}: is budgeted and does not exist`);
  }
}
if (problems.length > 0) {
  console.error(problems.join('\n'));
  console.error(`ptxas budgets: ${problems.length} problems; npm run cuda:budgets -- --write renews the figures`);
  process.exit(1);
}
const unseen = disassembler ? '' : '; no disassembler (CUOBJDUMP names one): instructions were not counted';
console.log(`ptxas budgets: ${names.length} kernels on ${targets.join(' and ')}${unseen}`);
