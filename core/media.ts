/** Which media a bundle came on, as far as the system tells: for the audit log, years later. */
import type { DeviceFacts } from './fs/device.ts';
import type { BundleInput } from './workflow-options.ts';

export interface MediaRecord {
  /** The bundle, with the record listening. */
  readonly bundle: BundleInput;
  /** Each medium once, in the order they came. */
  readonly media: () => readonly DeviceFacts[];
}

/** At most this many are written down. */
const MOST = 999;

export function recordMedia(
  bundle: BundleInput,
  device: ((file: string) => Promise<DeviceFacts | undefined>) | undefined,
): MediaRecord {
  const seen = new Map<string, DeviceFacts>();
  if (bundle.kind !== 'file' || !device) return { bundle, media: () => [] };
  return {
    bundle: {
      ...bundle,
      async onMedium(file) {
        const facts = await device(file);
        // A fixed disk is no medium; what came on it nobody carried.
        if (facts?.removable && seen.size < MOST) seen.set(JSON.stringify(facts), facts);
      },
    },
    media: () => [...seen.values()],
  };
}

/** As fields of an entry of the audit log. */
export function mediaFields(media: readonly DeviceFacts[]): { media?: Record<string, string>[] } {
  if (media.length === 0) return {};
  return {
    media: media.map(({ device, model, serial, label }) => ({
      device,
      ...(model === undefined ? {} : { model }),
      ...(serial === undefined ? {} : { serial }),
      ...(label === undefined ? {} : { label }),
    })),
  };
}
