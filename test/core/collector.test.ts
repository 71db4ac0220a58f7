// What programs forget is freed, whatever V8's own registries do meanwhile and wherever the realm of the package has gone.
import { runNode } from '../support/runNode';

// Full collections, and turns of the event loop for what they leave to finalise.
const common = `
  const flowmap = require('./lib');
  const { memory, full, captureGraph } = flowmap;
  require('node:v8').setFlagsFromString('--expose-gc');
  const vm = require('node:vm');
  const gc = vm.runInNewContext('gc');
  const turn = () => new Promise(setImmediate);
  async function collect() { for (let i = 0; i < 20; i++) { gc(); await turn(); } }
  const figures = async () => { await collect(); await flowmap.synchronize(); return [memory().tensors, memory().bytes]; };`;

describe('the collector frees', () => {
  it('tensors and recordings when V8 has stopped calling FinalizationRegistry', async () => {
    // One that dies with calls outstanding, as that of a realm that ends may, silences all others of its process.
    const { code, lines } = await runNode(`${common}
      (async () => {
        await collect(); // no other may be waiting
        (() => {
          let registry = new FinalizationRegistry(() => {});
          (() => registry.register({}, 1))();
          gc();
          registry = null;
        })();
        gc();
        gc();
        await turn();
        for (let i = 0; i < 10; i++) full([1000], i);
        const result = (() => { const run = captureGraph((x) => x.mul(x), {}); run(full([1000], 1)); return run(full([1000], 2)); })();
        result.dispose();
        console.log(JSON.stringify(await figures()));
      })();`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['[0,0]'] });
  });

  it('tensors that die with the realm they were made in', async () => {
    const { code, lines } = await runNode(`${common}
      const { createRequire } = require('node:module');
      const { readFileSync } = require('node:fs');
      function requireIn(context, file, cache = new Map()) {
        if (cache.has(file)) return cache.get(file).exports;
        const module = { exports: {} };
        cache.set(file, module);
        const outer = createRequire(file);
        const inner = (name) => {
          const found = outer.resolve(name);
          return found.endsWith('.js') && found.startsWith('/') ? requireIn(context, found, cache) : outer(name);
        };
        const text = '(function (module, exports, require, __filename, __dirname, process) {' + readFileSync(file, 'utf8') + '})';
        const wrapped = vm.runInContext(text, context, { filename: file });
        wrapped(module, module.exports, inner, file, require('node:path').dirname(file), { __proto__: process, once() {} });
        return module.exports;
      }
      (() => {
        const context = vm.createContext({ performance, Buffer, URL, setTimeout });
        context.flowmap = requireIn(context, require.resolve('./dist/lib/index.js'));
        vm.runInContext('held = Array.from({ length: 10 }, () => flowmap.full([1000], 1))', context);
        console.log(memory().tensors);
      })();
      // The addon builds its errors by the realm that loaded it last.
      require('./lib/native').native.setErrorFactory(require('./lib/errors').makeNativeError);
      figures().then((all) => console.log(JSON.stringify(all)));`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['10', '[0,0]'] });
  });
});
