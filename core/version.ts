/** The version of sealift; a test holds it equal to package.json's. */
export const VERSION = '0.1.0';
export const GENERATOR = `sealift/${VERSION}`;
