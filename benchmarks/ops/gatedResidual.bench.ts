// The gated residual with its tangent, and the backward of both, on the CPU.
import { gatedResidual } from '../gpu/gatedResidual';
import { onCpu } from './shared';

export const { takes, groups } = onCpu(gatedResidual);
