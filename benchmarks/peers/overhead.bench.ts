// The cost of one tiny operation, called from JavaScript, beside jax-js, which keeps expressions until they are read (as lazy
// graphs do), and onnxruntime-node, which runs a session over a graph made before.
import { randn, type Tensor, tidy } from '../../lib';
import { difference } from '../baselines/difference';
import { type FoundJaxJs, findJaxJs } from '../baselines/jaxJs';
import { nodeMlx } from '../baselines/nodeMlx';
import { OnnxGraph } from '../baselines/onnxModel';
import type { Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import { chain, chainLength, names, operandSizes, overheadSubjects, perOperation } from '../growth/overhead';
import type { Subject } from '../support/measure';

/** An operation consumes its arguments; `ref` lends one out once more. */
interface JaxArray {
  readonly ref: JaxArray;
  dispose(): void;
  dataSync(): Float32Array;
  sum(): JaxArray;
}

type JaxFunction = (...x: JaxArray[]) => JaxArray;

/** What of jax-js is measured here. */
interface Jax {
  jit(f: JaxFunction): JaxFunction;
  grad(f: JaxFunction): JaxFunction;
  jvp(f: JaxFunction, primals: JaxArray[], tangents: JaxArray[]): [JaxArray, JaxArray];
  numpy: { array(values: Float32Array): JaxArray; add(a: JaxArray, b: JaxArray): JaxArray };
}

function chainGraph(size: number, length: number): Buffer {
  const graph = new OnnxGraph();
  const [x, b] = [graph.input('x', [size]), graph.input('b', [size])];
  let sum = x;
  for (let i = 0; i < length; i++) sum = graph.node('Add', [sum, b]);
  graph.output('sum', sum, [size]);
  return graph.build();
}

const sumsOf = (x: Tensor, b: Tensor, length: number) =>
  new Map([['sum', length === 1 ? x.add(b) : tidy(() => chain(x, b))]]);

/** A session's run, its time that of one addition. */
async function onnxSubjects(peers: Peers, x: Tensor, b: Tensor, length: number, peerOf: string): Promise<Subject[]> {
  const inputs = new Map([
    ['x', x],
    ['b', b],
  ]);
  const found = await peers.onnx({ peerOf }, () => chainGraph(x.size, length), inputs, sumsOf(x, b, length));
  return found.map((subject) => ({
    ...subject,
    name: '  onnxruntime, one session run',
    time: async (repeats) => (await subject.time!(Math.ceil(repeats / length))) / length,
  }));
}

const distance = (ours: Tensor, theirs: Float32Array): number =>
  difference('jax-js', new Map([['result', ours]]), new Map([['result', theirs]]));

/** By the row they stand beside. */
function jaxSubjects({ jax }: FoundJaxJs, x: Tensor, b: Tensor): Map<string, Subject[]> {
  const { numpy, jit, grad, jvp } = jax as unknown as Jax;
  const [jx, jb] = [x, b].map((t) => numpy.array(t.dataSync() as Float32Array)) as [JaxArray, JaxArray];
  const added = (from: JaxArray, other: JaxArray) => {
    let sum = from;
    for (let i = 0; i < chainLength; i++) sum = numpy.add(sum, other.ref);
    return sum;
  };
  const compiled = jit((from, other) => {
    const sum = added(from!, other!);
    other!.dispose();
    return sum;
  });
  const gradient = grad((from) => added(from!, jb).sum());
  const alongB = () => jvp((from) => added(from!, jb), [jx.ref], [jb.ref]);
  const read = (array: JaxArray) => array.dataSync(); // which consumes it
  const one = (work: () => unknown) => () => {
    for (let i = 0; i < chainLength; i++) work();
  };
  const subject = (peerOf: string, how: string, block: () => unknown, difference: number) =>
    perOperation(`  jax-js${how}`, chainLength, block, { peerOf, difference });
  const [single, whole] = [sumsOf(x, b, 1).get('sum')!, sumsOf(x, b, chainLength).get('sum')!];
  const byName = new Map<string, Subject[]>();
  const readOne = () => read(numpy.add(jx.ref, jb.ref));
  const readChain = () => read(added(jx.ref, jb));
  const readCompiled = () => read(compiled(jx.ref, jb.ref));
  const readGradient = () => read(gradient(jx.ref));
  const readTangent = () => {
    const [value, tangent] = alongB();
    value.dispose();
    return read(tangent);
  };
  const onlyQueued = () => numpy.add(jx.ref, jb.ref).dispose();
  const ones = tidy(() => b.mul(0).add(1));
  byName.set(names.queued, [subject(names.queued, '', one(onlyQueued), distance(single, readOne()))]);
  byName.set(names.read, [subject(names.read, '', one(readOne), distance(single, readOne()))]);
  byName.set(names.chain, [
    subject(names.chain, '', readChain, distance(whole, readChain())),
    subject(names.chain, ', compiled by its jit', readCompiled, distance(whole, readCompiled())),
  ]);
  byName.set(names.backward, [subject(names.backward, '', readGradient, distance(ones, readGradient()))]);
  // The tangent of x is b, and b itself has none.
  byName.set(names.tangent, [subject(names.tangent, '', readTangent, distance(b, readTangent()))]);
  for (const tensor of [single, whole, ones]) tensor.dispose();
  return byName;
}

export async function* groups(peers: Peers): AsyncIterable<Group> {
  const jaxJs = await findJaxJs();
  peers.note(nodeMlx());
  for (const size of operandSizes) {
    const [a, b] = [randn([size]), randn([size])];
    const beside = typeof jaxJs === 'string' ? new Map<string, Subject[]>() : jaxSubjects(jaxJs, a, b);
    const subjects: Subject[] = [];
    for (const ours of overheadSubjects(a, b)) {
      subjects.push(ours, ...(beside.get(ours.name) ?? []));
      if (ours.name === names.read) subjects.push(...(await onnxSubjects(peers, a, b, 1, ours.name)));
      if (ours.name === names.chain) subjects.push(...(await onnxSubjects(peers, a, b, chainLength, ours.name)));
    }
    yield {
      title: `float32, ${size} ${size === 1 ? 'element' : 'elements'}`,
      subjects,
      done: () => peers.clear(),
    };
  }
}
