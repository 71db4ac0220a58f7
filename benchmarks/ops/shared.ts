// Families whose groups are the same on every device, with fewer rows for a CPU.
import { dispose } from '../../lib';
import type { Bench, Group } from '../cpu';
import { type Group as DeviceGroup, dtypeOf, dtypes, type Scale } from '../gpu/group';

export function onCpu(family: (scale: Scale) => DeviceGroup[]): Bench {
  return {
    takes: { dtype: dtypes, shapes: [] },
    *groups({ dtype }): Iterable<Group> {
      for (const group of family({ device: 'cpu', toy: false, fewer: true })) {
        if (dtypeOf(group) !== dtype) continue;
        const { subjects, held } = group.make();
        yield { title: group.title, subjects, done: async () => dispose(held) };
      }
    },
  };
}
