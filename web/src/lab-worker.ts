import { Lab } from './lab.js';
import { serveWorker } from './server.js';

serveWorker(Lab);
