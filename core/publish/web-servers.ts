/** Configurations of web servers that turn a directory into a registry. All were run with the real programs. */
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';

const EMPTY_INDEX = `{"schemaVersion":2,"mediaType":"${OCI_INDEX}","manifests":[]}`;
const UNKNOWN = '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not in this registry"}]}';
const FOREVER = 'public, max-age=31536000, immutable';
/** Read-only, and never compressed: a client hashes the bytes as they are. */
const HEAD = '# Written by sealift; written anew by the next sync.';

/** A path in a configuration of nginx or Caddy. Neither can be told of a quote or a line break in one in every place. */
function quoted(directory: string): string {
  return `"${directory.replaceAll(/["\\$\n\r]/g, (c) => `\\${c}`)}"`;
}

/** What nginx is told of one tag. */
export interface MappedTag {
  /** `v2/library/alpine/manifests/3.20` */
  readonly key: string;
  readonly digest: string;
}

/**
 * `map` blocks from the path of a tag to file and digest, for inside `http { }`. A tag leads to the manifest that lies under
 * its digest: until nginx reads the maps again it serves every tag as it was, and then all new ones at once.
 */
export function nginxMaps(tags: readonly MappedTag[]): string {
  const sorted = [...tags].sort((a, b) => (a.key < b.key ? -1 : 1));
  const lines = (value: (tag: MappedTag) => string): string =>
    sorted.map((tag) => `  "/${tag.key}" "${value(tag)}";\n`).join('');
  const folder = (key: string): string => key.slice(0, key.lastIndexOf('/'));
  return `${HEAD}
# For inside http { }; nginx must be told to reload after each sync.
map_hash_max_size 65536;
map_hash_bucket_size 512;
map $uri $sealift_file {
  default "/none";
${lines(({ key, digest }) => `/${folder(key)}/${digest}`)}}
map $uri $sealift_digest {
  default "";
${lines(({ digest }) => digest)}}
`;
}

const TYPES = `types {
    ${OCI_MANIFEST} ocim;
    ${OCI_INDEX} ocii;
    ${DOCKER_MANIFEST} dkm;
    ${DOCKER_LIST} dkl;
  }`;

function tries(file: string): string {
  return `try_files ${['ocim', 'ocii', 'dkm', 'dkl'].map((suffix) => `${file}~.${suffix}`).join(' ')} @sealift_unknown;`;
}

function commonLocations(directory: string): string {
  return `root ${quoted(directory)};
gzip off;
location = /v2/ {
  default_type application/json;
  add_header Docker-Distribution-Api-Version registry/2.0 always;
  return 200 '{}';
}
location ~ "^/v2/.+/blobs/(sha(?:256|512):[a-f0-9]+)$" {
  types { }
  default_type application/octet-stream;
  add_header Docker-Content-Digest $1;
  add_header Cache-Control "${FOREVER}";
  error_page 404 = @sealift_unknown;
}
location ~ "^/v2/.+/manifests/(sha(?:256|512):[a-f0-9]+)$" {
  ${TYPES}
  add_header Docker-Content-Digest $1;
  add_header Cache-Control "${FOREVER}";
  ${tries('$uri')}
}
location ~ "^/v2/.+/tags/list$" {
  types { }
  default_type application/json;
  add_header Cache-Control no-cache;
  error_page 404 = @sealift_unknown;
}
location ~ "^/v2/.+/referrers/[^/]+$" {
  types { }
  default_type ${OCI_INDEX};
  add_header Cache-Control no-cache;
  try_files $uri @sealift_no_referrers;
}
location @sealift_no_referrers {
  default_type ${OCI_INDEX};
  return 200 '${EMPTY_INDEX}';
}
location @sealift_unknown {
  internal;
  default_type application/json;
  return 404 '${UNKNOWN}';
}
location /v2/ {
  default_type application/json;
  return 404 '${UNKNOWN}';
}
location = / {
  try_files /index.html =404;
}
location = /index.html {
}
location / {
  return 404;
}
`;
}

/** For inside `server { }`, together with the maps. Tells clients the digest of tags too. */
export function nginxMapLocations(directory: string): string {
  return `${HEAD}
# For inside server { }; needs maps.conf inside http { }.
${commonLocations(directory)}location ~ "^/v2/.+/manifests/sha256-[a-f0-9]+$" {
  types { }
  default_type ${OCI_INDEX};
  add_header Cache-Control no-cache;
  error_page 404 = @sealift_unknown;
}
location ~ "^/v2/.+/manifests/[^/~]+$" {
  ${TYPES}
  # Looked up now: try_files changes the address that the map goes by.
  set $sealift_told $sealift_digest;
  add_header Docker-Content-Digest $sealift_told;
  add_header Cache-Control no-cache;
  ${tries('$sealift_file')}
}
`;
}

/** For inside `server { }`; nothing needs to be done after a sync. */
export function nginxSuffixLocations(directory: string): string {
  return `${HEAD}
# For inside server { }; needs nothing else, and no reload after a sync.
${commonLocations(directory)}location ~ "^/v2/.+/manifests/[^/~]+$" {
  ${TYPES}
  add_header Cache-Control no-cache;
  ${tries('$uri')}
}
`;
}

export function nginxExample(directory: string): string {
  return `${HEAD}
# A whole server, to be included inside http { } (copy it to /etc/nginx/conf.d/ and put your certificate in).
server {
  listen 5000;
  # listen 443 ssl; ssl_certificate ...; ssl_certificate_key ...; server_name images.example;
  include ${quoted(`${directory}/config/nginx/locations-suffixes.conf`)};
}
`;
}

export function caddyfile(directory: string): string {
  const byType = [
    ['ocim', OCI_MANIFEST],
    ['ocii', OCI_INDEX],
    ['dkm', DOCKER_MANIFEST],
    ['dkl', DOCKER_LIST],
  ];
  return `${HEAD}
# Replace :5000 by your host's name, and Caddy speaks TLS. Needs no reload after a sync.
:5000 {
	root * ${quoted(directory)}
	handle /v2/ {
		header Content-Type application/json
		respond "{}" 200
	}
	@write not method GET HEAD
	handle @write {
		respond 405
	}
	@blobs {
		path_regexp blob ^/v2/.+/blobs/(sha(?:256|512):[a-f0-9]+)$
		file {path}
	}
	handle @blobs {
		header Content-Type application/octet-stream
		header Docker-Content-Digest {re.blob.1}
		header Cache-Control "${FOREVER}"
		file_server
	}
	@manifests path_regexp ^/v2/.+/manifests/[^/~]+$
	@digests path_regexp digest ^/v2/.+/manifests/(sha(?:256|512):[a-f0-9]+)$
	header @digests Docker-Content-Digest {re.digest.1}
	handle @manifests {
		header Cache-Control no-cache
${byType
  .map(
    ([suffix, type]) => `		@${suffix} file {path}~.${suffix}
		handle @${suffix} {
			rewrite * {path}~.${suffix}
			header Content-Type ${type}
			file_server
		}
`,
  )
  .join('')}		respond 404
	}
	@lists path_regexp ^/v2/.+/tags/list$
	handle @lists {
		header Content-Type application/json
		header Cache-Control no-cache
		file_server
	}
	@referrers path_regexp ^/v2/.+/referrers/[^/]+$
	handle @referrers {
		header Content-Type ${OCI_INDEX}
		header Cache-Control no-cache
		@there file {path}
		handle @there {
			file_server
		}
		respond \`${EMPTY_INDEX}\` 200
	}
	@page path / /index.html
	handle @page {
		rewrite * /index.html
		file_server
	}
	respond 404
}
`;
}
