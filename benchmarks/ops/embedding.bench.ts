// Rows of a table by number, and the gradient of the table, on the CPU.
import { embedding } from '../gpu/embedding';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(embedding);
