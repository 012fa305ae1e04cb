import { expect, it } from 'vitest';
import type { SealiftEvent } from '../../../core/events.ts';
import { countKinds, EVIDENCE_KINDS, evidenceKind } from '../../../core/evidence/kinds.ts';
import { previewExport } from '../../../core/preview.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { cosignTag } from '../../../fixtures/cosign.ts';
import { makeLayout, signedImage, singleImage } from '../../../fixtures/images.ts';
import { makeWorld, SOURCE_OPTIONS } from '../../../fixtures/world.ts';

const tag = (kind: 'sig' | 'att' | 'sbom'): string => cosignTag(`sha256:${'a'.repeat(64)}`, kind);

it.each([
  ['openpgp-signature', 'application/vnd.sealift.simple-signing.v1', undefined],
  ['cosign-signature', '', tag('sig')],
  ['cosign-attestation', 'application/vnd.dsse.envelope.v1+json', tag('att')],
  ['sbom', 'text/spdx+json', tag('sbom')],
  ['sigstore-bundle', 'application/vnd.dev.sigstore.bundle.v0.3+json', undefined],
  ['notation-signature', 'application/vnd.cncf.notary.signature', undefined],
  ['attestation', 'application/vnd.in-toto+json', undefined],
  ['sbom', 'application/vnd.cyclonedx+json', undefined],
  ['other', 'application/x-other', undefined],
  ['other', '', undefined],
])('%s is the kind of type "%s"', (kind, artifactType, tagged) => {
  expect(evidenceKind({ artifactType, tag: tagged })).toBe(kind);
});

it('counts are in one order, without what is not there', () => {
  expect(countKinds(['other', 'sbom', 'sbom'])).toEqual([
    { kind: 'sbom', count: 2 },
    { kind: 'other', count: 1 },
  ]);
  expect(countKinds(EVIDENCE_KINDS).map(({ kind }) => kind)).toEqual(EVIDENCE_KINDS);
});

it('is told of each image before anything is signed, and which has none', async () => {
  const world = await makeWorld();
  try {
    await world.export({ 'a.example/signed:1': signedImage(), 'a.example/bare:1': singleImage() });
    const at = (wanted: (event: SealiftEvent) => boolean): number => world.events.findIndex(wanted);
    const found = at((event) => event.type === 'notice' && event.code === 'evidence-found');
    expect(world.events[found]).toMatchObject({
      message: 'evidence found: 5 on 1 of 2; none on a.example/bare:1',
    });
    const signing = at((event) => event.type === 'phase' && event.phase === 'sign');
    expect(found).toBeLessThan(signing);
    const kinds = [
      { kind: 'sigstore-bundle', count: 1 },
      { kind: 'notation-signature', count: 2 },
      { kind: 'sbom', count: 1 },
      { kind: 'other', count: 1 },
    ];
    const shown = world.events.flatMap((event) => (event.type === 'image' ? [event] : []));
    expect(shown.find(({ name }) => name.includes('signed'))?.evidenceKinds).toEqual(kinds);

    const layout = `${world.directory}/layout`;
    makeLayout(layout, [{ name: 'v1', root: signedImage() }]);
    const preview = await previewExport(
      {
        images: [parseLocation(`a.example/signed:1=oci:${layout}:v1`)],
        platforms: [],
        includeEvidence: true,
        concurrency: 2,
        source: SOURCE_OPTIONS,
      },
      world.context(),
    );
    expect(preview.images[0]?.evidenceKinds).toEqual(kinds);
  } finally {
    await world.close();
  }
});
