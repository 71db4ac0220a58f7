// All groups of GPU benchmarks, by family.
import { activation } from './activation';
import { attention } from './attention';
import { basics } from './basics';
import { embedding } from './embedding';
import { gatedResidual } from './gatedResidual';
import type { Group, Scale } from './group';
import { matmul } from './matmul';
import { mmd } from './mmd';
import { norm } from './norm';
import { optim } from './optim';
import { patches } from './patches';
import { softmax } from './softmax';

const families = [basics, norm, gatedResidual, mmd, activation, softmax, embedding, patches, optim, matmul, attention];

// Those that know the sizes of presets.
const ofPresets = [norm, matmul, attention];

export function groupsOf(scale: Scale): Group[] {
  return (scale.shapes ? ofPresets : families).flatMap((family) => family(scale));
}
