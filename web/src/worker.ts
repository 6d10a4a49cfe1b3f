import { Host } from './host.js';
import type { Request } from './protocol.js';

/** The part of a worker's global scope that is used here. */
interface Scope {
    postMessage(message: unknown, transfer: Transferable[]): void;
    onmessage: ((event: MessageEvent<Request>) => void) | null;
}

const scope = globalThis as unknown as Scope;
const host = new Host((reply, transfer = []) => scope.postMessage(reply, transfer));
scope.onmessage = ({ data }) => host.receive(data);
