import { describe, expect, test } from 'vitest';
import { readmeText } from '../../../core/bundle/readme.ts';

const facts = (count: number): Parameters<typeof readmeText>[0] => ({
  collection: { id: 'a'.repeat(64), name: 'main' },
  version: 1,
  created: '2026-03-01T00:00:00Z',
  expires: '2026-05-30T00:00:00Z',
  rootFingerprint: 'b'.repeat(64),
  images: Array.from({ length: count }, (_, at) => ({
    name: `registry.example/${'team/'.repeat(10)}image-${at}:1`,
    digest: `sha256:${'c'.repeat(64)}`,
    platforms: ['linux/amd64', 'linux/arm64/v8', 'linux/arm/v7'],
  })),
  sha512: false,
  dockerArchive: false,
});

describe('README.txt', () => {
  test('names its images', () => {
    const text = readmeText(facts(3)).toString();
    expect(text).toContain('Images (3)');
    expect(text.match(/image-\d+:1/g)).toEqual(['image-0:1', 'image-1:1', 'image-2:1']);
    expect(text).not.toContain('more:');
  });
  test('of very many images stays below what a reader takes (1 MiB), and says how many there are', () => {
    const bytes = readmeText(facts(50_000));
    expect(bytes.length).toBeLessThan(1024 * 1024);
    expect(bytes.toString()).toContain('Images (50000)');
    expect(bytes.toString()).toContain('and 49000 more: index.json and sealift.json have them all');
    expect(bytes.toString()).toContain('sealift verify BUNDLE');
  });
});
