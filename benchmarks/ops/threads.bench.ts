// What more threads are worth: time, steps per second and parallel efficiency.
import type { Group } from '../cpu';
import { threadGroups } from '../growth/threads';

export const groups = (): Iterable<Group> => threadGroups();
