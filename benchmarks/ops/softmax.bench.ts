// Softmax over rows, on the CPU.
import { softmax } from '../gpu/softmax';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(softmax);
