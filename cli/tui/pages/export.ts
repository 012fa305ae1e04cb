import type { App } from '../app.ts';
export function startExport(app: App): void {
  app.say('soon');
}
