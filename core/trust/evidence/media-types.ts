/** Of the manifests that sealift wraps signatures in, and of the one layer of such a manifest (docs/bundle-format.md). */
export const SIMPLE_SIGNING_ARTIFACT = 'application/vnd.sealift.simple-signing.v1';
export const SIMPLE_SIGNING_LAYER = 'application/vnd.sealift.simple-signing.v1.openpgp';
