/** The program of a pool's worker thread. */
import { parentPort } from 'node:worker_threads';
import { createEngine, type Request } from './engine.ts';

if (parentPort) {
  const port = parentPort;
  const engine = createEngine(
    (reply, move) => port.postMessage(reply, move ?? []),
    (turn) => setImmediate(turn),
  );
  port.on('message', (request: Request) => engine.handle(request));
}
