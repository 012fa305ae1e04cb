/**
 * `NAME.volumes.json`: lies beside the volumes on every medium and helps to find out which of them is bad. Nobody has
 * signed it and it decides nothing; it is read as what comes from an enemy.
 */
import { isSealiftError, SealiftError } from '../../errors.ts';
import { SHA256_HEX } from '../../fs/document.ts';
import { canonicalJson } from '../../json/canonical.ts';
import { type JsonObject, type JsonValue, parseJson } from '../../json/strict.ts';
import { cutVolumes, MIN_VOLUME_SIZE, volumeName } from './names.ts';

export const VOLUME_INDEX_TYPE = 'application/vnd.sealift.volumes.v1+json';
export const MAX_VOLUME_INDEX: number = 1024 * 1024;
const FORMAT_VERSION = 1;

export interface VolumeIndex {
  /** The bundle's name, `images.tar`. */
  readonly name: string;
  /** SHA-256 of sealift.json, lower-case hex: the bundle this is about. */
  readonly manifestSha256: string;
  /** Bytes of the whole bundle. */
  readonly size: number;
  readonly volumeSize: number;
  /** SHA-256 of each volume from the first on, lower-case hex; undefined for one that was not written yet. */
  readonly hashes: readonly (string | undefined)[];
}

/** Canonical JSON of the index. */
export function encodeVolumeIndex(index: VolumeIndex): Buffer {
  return canonicalJson({
    formatVersion: FORMAT_VERSION,
    mediaType: VOLUME_INDEX_TYPE,
    name: index.name,
    bundle: { manifestSha256: index.manifestSha256, size: index.size },
    volumeSize: index.volumeSize,
    volumes: cutVolumes(index.size, index.volumeSize).map(({ number, size }) => {
      const sha256 = index.hashes[number - 1];
      return { name: volumeName(index.name, number), size, ...(sha256 === undefined ? {} : { sha256 }) };
    }),
  });
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * @param base the name of the volumes it lies beside
 * @throws SealiftError `volume-index-invalid`
 */
export function parseVolumeIndex(bytes: Uint8Array, base: string, file: string): VolumeIndex {
  const refuse = (problem: string, cause?: unknown) =>
    new SealiftError('volume-index-invalid', `the list of volumes cannot be used: ${problem}`, {
      subject: file,
      hint: 'copy the volumes to another directory without it; the bundle is checked by its own hashes',
      cause,
    });
  let value: JsonValue;
  try {
    value = parseJson(bytes, { what: file, maxBytes: MAX_VOLUME_INDEX, maxDepth: 4, plainIntegers: true });
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    throw refuse(error.message, error);
  }
  if (!isObject(value)) throw refuse('it is no object');
  const { formatVersion, mediaType, name, bundle, volumeSize, volumes } = value as Record<string, JsonValue>;
  if (mediaType !== VOLUME_INDEX_TYPE || formatVersion !== FORMAT_VERSION) {
    throw refuse(`it is no list of volumes of format ${FORMAT_VERSION}`);
  }
  if (name !== base) throw refuse(`it is about other volumes than ${base}`);
  if (!isObject(bundle)) throw refuse('it names no bundle');
  const manifestSha256 = bundle['manifestSha256'];
  const size = bundle['size'];
  if (typeof manifestSha256 !== 'string' || !SHA256_HEX.test(manifestSha256))
    throw refuse('bundle.manifestSha256 is no SHA-256');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size <= 0)
    throw refuse('bundle.size is no size');
  if (typeof volumeSize !== 'number' || !Number.isSafeInteger(volumeSize) || volumeSize < MIN_VOLUME_SIZE)
    throw refuse('volumeSize is no size');
  const cuts = cutsOf(size, volumeSize);
  if (!cuts) throw refuse('it has too many volumes');
  if (!Array.isArray(volumes) || volumes.length !== cuts.length)
    throw refuse(`it lists another number of volumes than its sizes make: want ${cuts.length}`);
  const hashes = cuts.map(({ number, size: want }) => {
    const volume = (volumes as readonly JsonValue[])[number - 1];
    if (!isObject(volume) || volume['name'] !== volumeName(base, number))
      throw refuse(`volume ${number} has another name`);
    if (volume['size'] !== want) throw refuse(`volume ${number} has another size than the cut`);
    const sha256 = Object.hasOwn(volume, 'sha256') ? volume['sha256'] : undefined;
    if (sha256 !== undefined && (typeof sha256 !== 'string' || !SHA256_HEX.test(sha256)))
      throw refuse(`the hash of volume ${number} is no SHA-256`);
    return sha256;
  });
  return { name: base, manifestSha256, size, volumeSize, hashes };
}

function cutsOf(size: number, volumeSize: number): ReturnType<typeof cutVolumes> | undefined {
  try {
    return cutVolumes(size, volumeSize);
  } catch {
    return undefined;
  }
}
