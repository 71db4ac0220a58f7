// The recipes of the digits are configurations that training takes, quick ones too.
import { recipe } from '../../examples/digits/recipe';
import { validateConfig } from '../../lib';

it.each(['tvm', 'imm'] as const)('the recipe for %s is accepted, as a whole and as a tenth', (objective) => {
  const [whole, tenth] = [recipe(0, objective), recipe(0, objective, 0.1)];
  for (const config of [whole, tenth]) expect(validateConfig(config)).toBe(config);
  expect(whole.stages.map((stage) => stage.objective)).toEqual(['flowMatching', objective]);
  for (const [i, { steps }] of whole.stages.entries()) expect(tenth.stages[i]!.steps).toBe(steps / 10);
});
