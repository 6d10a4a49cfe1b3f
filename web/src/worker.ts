import { Host } from './host.js';
import { serveWorker } from './server.js';

serveWorker(Host);
