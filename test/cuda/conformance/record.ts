// npm run gpu:record: runs the instruction wrappers on this machine's GPU, compares the emulator with it, and writes the
// recording to commit. With the name of a file, takes from it what the program printed on another machine.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, nvcc } from '../support/programs';
import { compare, record, recordingsFolder, toRecording } from './compare';

if (!nvcc) throw new Error('gpu:record needs nvcc, and a build (npm run build) that found it');

build('cuda_conformance');
build('simt_cudart');

const [printed] = process.argv.slice(2);
const recording = printed
  ? toRecording(
      readFileSync(printed, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as object),
    )
  : record('gpu');
if (/emulator/.test(recording.device)) throw new Error(`gpu:record needs a GPU, got ${recording.device}`);

const name = `${recording.device.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.json`;
writeFileSync(join(recordingsFolder, name), `${JSON.stringify(recording, null, 2)}\n`);
console.log(`${recording.cases.length} cases of ${recording.device} in ${join(recordingsFolder, name)}`);

const wrong = compare(recording, record('emulated'));
for (const line of wrong) console.error(line);
if (wrong.length > 0) {
  console.error(`the emulator differs in ${wrong.length} values`);
  process.exitCode = 1;
}
