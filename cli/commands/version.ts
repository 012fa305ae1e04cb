import { VERSION } from '../../core/version.ts';
import type { Command } from '../command.ts';

export const versionCommand: Command = {
  words: ['version'],
  summary: 'show the version of sealift and of what it runs on',
  options: {},
  examples: ['sealift version', 'sealift --version'],
  run: () => {
    const result = {
      version: VERSION,
      node: process.version,
      openssl: process.versions.openssl,
      platform: `${process.platform}/${process.arch}`,
      bundleFormat: 1,
      jsonFormat: 1,
    };
    return Promise.resolve({
      result,
      text: () =>
        `sealift ${result.version}\nbundle format ${result.bundleFormat}, JSON format ${result.jsonFormat}\nNode ${result.node}, OpenSSL ${result.openssl}, ${result.platform}`,
      quiet: result.version,
    });
  },
};
