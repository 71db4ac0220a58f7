// Before each test, what earlier tests dropped is collected: a test that compares `memory()` before and after must not
// see the collector free another test's tensors in between.
import { collect } from './collect';

beforeEach(collect);
