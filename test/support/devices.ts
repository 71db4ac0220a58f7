// The devices that tests run on. Each test file that imports this runs twice: in the ordinary project on the CPU and, where
// there is one, on a GPU; in the project cuda-emulated (jest.config.js) on the emulator.
import { cudaFeatures } from '../../lib';

export interface TestDevice {
  /** What options take: 'cpu' or 'cuda'. */
  device: string;
  /** 'cpu', 'cuda' or 'cuda-emulated': what FLOWMAP_DEVICES and titles call it. */
  label: string;
  /** Why it is not to be had; absent where it is. */
  missing?: string;
}

const emulated = process.env.FLOWMAP_CUDA === 'emulated';
const labels = ['cpu', 'cuda', 'cuda-emulated'];
const asked = process.env.FLOWMAP_DEVICES?.split(',') ?? [];
for (const name of asked) {
  if (!labels.includes(name)) throw new Error(`FLOWMAP_DEVICES must list ${labels.join(', ')}, got '${name}'`);
}

function find(): TestDevice[] {
  const { devices: found, reason } = cudaFeatures();
  const label = emulated ? 'cuda-emulated' : 'cuda';
  const cuda = { device: 'cuda', label, ...(found.length === 0 ? { missing: reason } : {}) };
  return emulated ? [cuda] : [{ device: 'cpu', label: 'cpu' }, cuda];
}

/** Those of this project that are to be tested, present or not. */
export const devices: readonly TestDevice[] = find().filter(({ label }) => asked.length === 0 || asked.includes(label));

/**
 * Whether 16-bit attention has kernels of its own on this project's GPU that packed sequences and QKNorm do without: what is
 * the same on other GPUs may then differ by roundings.
 */
export const onHopper =
  cudaFeatures().devices.some(({ capability }) => capability === '9.0') && process.env.FLOWMAP_HOPPER !== 'off';

/**
 * `describe` for each device. One that is missing is skipped, visibly and with the reason; where FLOWMAP_DEVICES asks for
 * it, a test fails instead.
 */
export function describeOnDevices(title: string, body: (device: string, label: string) => void): void {
  for (const { device, label, missing } of devices) {
    const name = `${title} on ${label}`;
    if (missing === undefined) {
      describe(name, () => body(device, label));
    } else if (asked.includes(label)) {
      it(`${name}: FLOWMAP_DEVICES asks for it`, () => {
        throw new Error(`${label} is not available: ${missing}`);
      });
    } else {
      // Not by describe.skip, which calls the body: that may make tensors on the device.
      it.skip(`${name} (${missing})`, () => {});
    }
  }
  // jest refuses a file without tests.
  if (devices.length === 0) it.skip(`${title}: FLOWMAP_DEVICES asks for no device of this project`, () => {});
}
