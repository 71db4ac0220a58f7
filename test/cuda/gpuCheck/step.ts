// A step of gpu:check: timed and limited; what goes wrong in it is its outcome and stops no other.

/** 'absent': what the step needs is not on this machine, so nothing was checked. */
export type Outcome = 'passed' | 'failed' | 'timed out' | 'absent';

export interface Result {
  outcome: Outcome;
  /** For people: a few lines. */
  summary: string[];
  /** For programs. */
  details: unknown;
}

export interface StepReport extends Result {
  name: string;
  seconds: number;
  limitSeconds: number;
}

export interface Context {
  /** A dry run: the emulator stands in for the GPU, and nothing is said about any GPU. */
  emulated: boolean;
  /** Milliseconds this step has left. */
  left(): number;
  /** Where the step may leave a file; the name begins with device, date and commit. */
  file(suffix: string): string;
}

export interface Step {
  name: string;
  limitSeconds: number;
  run(context: Context): Promise<Result>;
}

export async function runStep(step: Step, context: Omit<Context, 'left'>): Promise<StepReport> {
  const start = performance.now();
  const left = () => step.limitSeconds * 1e3 - (performance.now() - start);
  let result: Result;
  try {
    result = await step.run({ ...context, left });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    result = {
      outcome: left() <= 0 ? 'timed out' : 'failed',
      summary: message.split('\n'),
      details: { error: message },
    };
  }
  const seconds = Math.round((performance.now() - start) / 100) / 10;
  return { name: step.name, ...result, seconds, limitSeconds: step.limitSeconds };
}

const severity: readonly Outcome[] = ['passed', 'absent', 'timed out', 'failed'];

export function worst(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce((a, b) => (severity.indexOf(b) > severity.indexOf(a) ? b : a), 'passed');
}

/** 0: everything passed; 1: something failed or ran out of time; 2: nothing failed, but something could not be checked. */
export function exitStatus(outcomes: readonly Outcome[]): 0 | 1 | 2 {
  const all = worst(outcomes);
  if (all === 'passed') return 0;
  return all === 'absent' ? 2 : 1;
}
