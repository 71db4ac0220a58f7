// Images to patches and back, and their embedding, on the CPU.
import { patches } from '../gpu/patches';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(patches);
