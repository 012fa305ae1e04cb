/** Of the manifests that sealift wraps signatures in, and of the one layer of such a manifest (docs/bundle-format.md). */
export const SIMPLE_SIGNING_ARTIFACT = 'application/vnd.sealift.simple-signing.v1';
export const SIMPLE_SIGNING_LAYER = 'application/vnd.sealift.simple-signing.v1.openpgp';
/** Of the manifests around the metadata of a notary server, of each file in one, and where it says whose it is. */
export const CONTENT_TRUST_ARTIFACT = 'application/vnd.sealift.content-trust.v1';
export const CONTENT_TRUST_LAYER = 'application/vnd.sealift.content-trust.v1.metadata+json';
export const CONTENT_TRUST_GUN = 'vnd.sealift.content-trust.gun';
