// Runs every family on the CUDA device, for a tool that watches the process.
import { disagreements, families } from './families';

const wrong = Object.keys(families).flatMap((name) => disagreements(name, 'cuda'));
for (const line of wrong) console.error(line);
console.log(`${Object.keys(families).length} families, ${wrong.length} results differ from the CPU's`);
if (wrong.length > 0) process.exitCode = 1;
