// Every function of the addon under arbitrary arguments, on the CPU. test/devices/fuzz.test.ts has the other devices.
import { fuzzAddon } from '../support/fuzzAddon';

const calls = 100_000;

it(`returns or throws a typed error in ${calls} calls`, () => fuzzAddon(['cpu'], calls), 300_000);
