import { SealiftError } from '../../../core/errors.ts';

/** The code of the error `action` throws; `accepted` where it throws none. Other errors pass. */
export function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
  return 'accepted';
}

export async function codeOfAsync(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
  return 'accepted';
}
