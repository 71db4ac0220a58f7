// Steps of the optimisers, on the CPU.
import { optim } from '../gpu/optim';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(optim);
