/** The oldest Node that sealift runs on, as in `engines` of package.json. */
export const OLDEST_NODE = [24, 15] as const;

/**
 * What to tell somebody whose Node is too old; undefined where it is new enough.
 * @param version as in process.version, such as `v20.20.2`
 */
export function refuseOldNode(version: string): string | undefined {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) return undefined;
  return `sealift: error: Node ${version} is too old, want v${OLDEST_NODE.join('.')} or newer`;
}
