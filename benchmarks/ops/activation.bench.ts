// Activations with their tangents, and the backward of both, on the CPU.
import { activation } from '../gpu/activation';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(activation);
