/** Changing media: what a front end is asked, one question at a time. */

export interface MediumRequest {
  /** Whether a volume is to be read or to be written. */
  readonly purpose: 'read' | 'write';
  /** Numbers of the volumes that are wanted; any of them will do where it is to be read. */
  readonly wanted: readonly number[];
  /** Number of volumes of the bundle; undefined where it is not known yet. */
  readonly total: number | undefined;
  /** The bundle's name, `images.tar`. */
  readonly name: string;
  /** Where the last medium was. */
  readonly directory: string;
  /** Why the last answer did not help. */
  readonly problem?: string | undefined;
}

/**
 * Has the medium changed; the directory where the next one is. Undefined where there is no way to ask.
 * Nothing is open on the old medium while this runs.
 */
export type MediumProvider = (request: MediumRequest) => Promise<string | undefined>;
