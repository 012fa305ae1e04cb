import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { parseImageList } from '../../../core/lists/list.ts';
import { imageNameOf } from '../../../core/transport/location.ts';
import { failureOf } from '../transport/surroundings.ts';

const HEX = 'a'.repeat(64);
const read = (text: string | Uint8Array) =>
  parseImageList(Buffer.from(text as string), 'list', DEFAULT_LIMITS);
async function names(text: string): Promise<string[]> {
  return (await read(text)).images.map(({ location }) => imageNameOf(location));
}
async function reasons(text: string): Promise<[string, string][]> {
  return (await read(text)).skipped.map(({ value, reason }) => [value, reason]);
}
const codeOf = async (text: string | Uint8Array) => (await failureOf(read(text))).code;

describe('lines', () => {
  it('are one reference each, with comments, blank lines and duplicates', async () => {
    const list = await read(
      `# what we run\n\nalpine:3.20\r\n  quay.io/acme/app:1   # pinned later\ndocker.io/library/alpine:3.20\napp:1=docker://mirror.example/x:2\n[::1]:5000/app\nalpine@sha256:${HEX}\n`,
    );
    expect(list.images.map(({ location, places }) => [imageNameOf(location), places])).toEqual([
      ['docker.io/library/alpine:3.20', ['line 3', 'line 5']],
      ['quay.io/acme/app:1', ['line 4']],
      ['docker.io/library/app:1', ['line 6']],
      ['[::1]:5000/app:latest', ['line 7']],
      [`docker.io/library/alpine@sha256:${HEX}`, ['line 8']],
    ]);
    expect(list.skipped).toEqual([]);
  });

  it('that are no reference are refused with their number', async () => {
    const failure = await failureOf(read('alpine:3.20\nAlpine:3\n'));
    expect(failure).toMatchObject({ code: 'invalid-reference', subject: 'list' });
    expect(failure.message).toMatch(/^line 2: /);
  });
});

/** As `helm template` printed it for a chart with a database, a job, a hook and a definition of a resource. */
const HELM_OUTPUT = `---
# Source: shop/charts/postgresql/templates/primary/statefulset.yaml
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: shop-postgresql
  labels: {app.kubernetes.io/version: 16.4.0, helm.sh/chart: postgresql-15.5.20}
spec:
  template:
    spec:
      initContainers:
        - name: init-chmod-data
          image: docker.io/bitnami/os-shell:12-debian-12-r27
          imagePullPolicy: "IfNotPresent"
      containers:
        - name: postgresql
          image: docker.io/bitnami/postgresql:16.4.0-debian-12-r0
          env:
            - {name: BITNAMI_DEBUG, value: "false"}
        - name: metrics
          image: "docker.io/bitnami/postgres-exporter:0.15.0-debian-12-r38"
---
# Source: shop/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: shop
          image: "registry.example:5000/acme/shop:3.20@sha256:${HEX}"
        - name: sidecar
          image: busybox
      ephemeralContainers:
        - name: debugger
          image: nicolaka/netshoot:v0.13
      volumes:
        - name: data
          image: {reference: "quay.io/acme/data:1", pullPolicy: IfNotPresent}
        - name: block
          rbd: {image: foo, monitors: ["10.0.0.1:6789"], pool: kube}
---
# Source: shop/templates/configmap.yaml
apiVersion: v1
kind: ConfigMap
data:
  note: "image: not/an/image:1"
  config.yaml: |
    image: not/an/image:2
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  versions:
    - schema:
        openAPIV3Schema:
          properties:
            image: {type: string, description: the image}
            repository: {type: string}
---
# Source: shop/templates/empty.yaml
---
# Source: shop/templates/tests/test.yaml
apiVersion: v1
kind: Pod
metadata:
  annotations: {"helm.sh/hook": test}
spec:
  containers:
    - name: wget
      image: busybox
`;

/** As compose writes it. */
const VARIABLE = ['$', '{TAG:-latest}'].join('');
const COMPOSE = `x-base: &base
  image: redis:7.4
  restart: always
services:
  cache: *base
  cache2:
    <<: *base
    command: ["--save", ""]
  web:
    image: nginx:1.29
    volumes: ["./image:/image"]
  api:
    build: ./api
  worker:
    build: {context: ./worker}
    image: acme/worker:1
  odd:
    image: "acme/odd:${VARIABLE}"
volumes: {image: {}}
`;

const HELM_VALUES = `global: {imageRegistry: ""}
image:
  registry: quay.io
  repository: acme/app
  tag: 3.20
sidecar:
  image: {repository: acme/sidecar, tag: "", digest: sha256:${HEX}}
worker:
  image: {repository: acme/worker, pullPolicy: Always}
init:
  image: acme/init
  imageTag: 1.10
templated: {image: "{{ .Values.x }}"}
nothing: {image: }
from: {image: scratch}
broken: {image: "Not An Image"}
custom: {imageRef: ghcr.io/acme/ref:1}
dependencies: [{name: x, version: 1, repository: "https://charts.example/", tag: 1}]
`;

describe('YAML and JSON', () => {
  it('of helm template give exactly their images', async () => {
    expect(await names(HELM_OUTPUT)).toEqual([
      'docker.io/bitnami/os-shell:12-debian-12-r27',
      'docker.io/bitnami/postgresql:16.4.0-debian-12-r0',
      'docker.io/bitnami/postgres-exporter:0.15.0-debian-12-r38',
      'registry.example:5000/acme/shop:3.20',
      'docker.io/library/busybox:latest',
      'docker.io/nicolaka/netshoot:v0.13',
      'quay.io/acme/data:1',
    ]);
    expect(await reasons(HELM_OUTPUT)).toEqual([['foo', 'it is the image of a block device']]);
    const busybox = (await read(HELM_OUTPUT)).images.find(({ location }) =>
      location.text.includes('busybox'),
    );
    expect(busybox?.places).toEqual([
      'document 2: spec.template.spec.containers[1].image',
      'document 6: spec.containers[0].image',
    ]);
  });

  it('keep the digest of a name that has both', async () => {
    const shop = (await read(HELM_OUTPUT)).images[3]?.location.location;
    expect(shop).toMatchObject({ reference: { tag: '3.20', digest: `sha256:${HEX}` } });
  });

  it('of compose give exactly their images; what is built or variable is told', async () => {
    expect(await names(COMPOSE)).toEqual([
      'docker.io/library/redis:7.4',
      'docker.io/library/nginx:1.29',
      'docker.io/acme/worker:1',
    ]);
    expect(await reasons(COMPOSE)).toEqual([
      ['./api', 'it is built from a directory and has no name'],
      [`acme/odd:${VARIABLE}`, 'it holds a variable; give the output of docker compose config'],
    ]);
  });

  it('of Helm values give repository, tag and digest as written', async () => {
    expect(await names(HELM_VALUES)).toEqual([
      'quay.io/acme/app:3.20',
      `docker.io/acme/sidecar@sha256:${HEX}`,
      'ghcr.io/acme/ref:1',
    ]);
    expect(await reasons(HELM_VALUES)).toEqual([
      ['acme/worker', 'it has no tag; give the output of helm template, which has it'],
      ['acme/init', 'its tag stands in another value; give the output of helm template'],
      ['{{ .Values.x }}', 'it is a template; give the output of helm template'],
      ['', 'it is empty'],
      ['scratch', 'scratch is no image'],
      ['Not An Image', 'it is no image reference'],
    ]);
  });

  it('give the images of JSON, and of plain lists', async () => {
    const pods = {
      items: [{ spec: { containers: [{ image: 'nginx:1.29' }] } }, { status: { image: 'nginx:1.29' } }],
    };
    expect(await names(JSON.stringify(pods, null, 1))).toEqual(['docker.io/library/nginx:1.29']);
    expect(await names('{"image": {"repository": "acme/a", "tag": 3.20}}')).toEqual([
      'docker.io/acme/a:3.20',
    ]);
    // No JSON, and YAML all the same.
    expect(await names('{image: "alpine:3.20", # the base\n}')).toEqual(['docker.io/library/alpine:3.20']);
    expect(await names('["alpine:3.20", "busybox"]')).toHaveLength(2);
    expect(await names('- alpine:3.20\n- busybox\n')).toHaveLength(2);
    expect(await names('images:\n  - alpine:3.20\n')).toEqual(['docker.io/library/alpine:3.20']);
  });

  it.each<[string, string | Uint8Array]>([
    ['an unrendered chart', 'spec:\n  {{- if .Values.x }}\n  image: {{ .Values.image }}\n'],
    ['prose', 'these are the images\nwe need: alpine, nginx: and more'],
    ['one text', 'just some words here'],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00])],
    ['unclosed JSON', '{"image": "alpine"'],
    ['nesting without end', '['.repeat(100_000)],
    ['nesting that is closed', `${'['.repeat(3000)}${']'.repeat(3000)}`],
  ])('refuse %s', async (_title, text) => {
    expect(await codeOf(text)).toBe('list-invalid');
  });

  it('refuse anchors that blow up', async () => {
    const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 12; i += 1) {
      const [before, here] = [String.fromCharCode(96 + i), String.fromCharCode(97 + i)];
      bomb.push(`${here}: &${here} [${Array(9).fill(`*${before}`).join(', ')}]`);
    }
    expect(await codeOf(`${bomb.join('\n')}\n`)).toBe('list-invalid');
  });

  it('refuse a list over the limit', async () => {
    const failure = await failureOf(parseImageList(Buffer.alloc(11, 'a'), 'list', { listFile: 10 }));
    expect(failure.code).toBe('list-invalid');
  });

  it('make nothing of tags and prototypes', async () => {
    const text =
      'a: !!js/function "function () { return 1 }"\n__proto__: {image: "evil:1"}\nb: !Ref X\nimage: alpine:3.20\n';
    expect(await names(text)).toContain('docker.io/library/alpine:3.20');
    expect(({} as { image?: unknown }).image).toBeUndefined();
  });

  it('end in a list or an error of ours, whatever comes', async () => {
    const piece = fc.constantFrom(
      'image: ',
      'a',
      ':',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '&x ',
      '*x',
      '"',
      '#',
      '---\n',
      '<<: ',
      '|',
      '!t ',
      ',',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 20 }), async (pieces) => {
        try {
          await read(pieces.join(''));
        } catch (error) {
          expect((error as { code?: string }).code).toMatch(
            /^(list-invalid|invalid-reference|invalid-digest|unknown-location)$/,
          );
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('what looks like an image elsewhere', () => {
  const mentions = async (text: string) =>
    (await read(text)).skipped.filter(({ reason }) => reason.startsWith('it looks like an image'));

  it.each([
    ['args: ["--reloader-image=quay.io/acme/reloader:v0.75"]', 'quay.io/acme/reloader:v0.75'],
    ['env: [{name: RELATED_IMAGE_A, value: "quay.io/acme/a@sha256:HEX"}]', 'quay.io/acme/a@sha256:HEX'],
    ['annotations: {proxy: "ghcr.io:443/acme/proxy:1"}', 'ghcr.io:443/acme/proxy:1'],
    ['spec: {proxyImage: "sidecar:8"}', 'docker.io/library/sidecar:8'],
    ['command: [run, registry.example/acme/b:2@sha256:HEX]', 'registry.example/acme/b:2@sha256:HEX'],
  ])('%s is told', async (text, value) => {
    const full = (part: string) => part.replace('HEX', 'ab'.repeat(32));
    expect((await mentions(`kind: Pod\n${full(text)}\n`)).map((one) => one.value)).toEqual([full(value)]);
  });

  it.each([
    'url: "https://quay.io/acme/app:1"',
    'repository: quay.io/acme/app',
    'args: ["quay.io/acme/app"]',
    'words: "see quay.io/acme/app:1 there"',
    'host: "registry.example:5000"',
    'file: "a/b.txt:1"',
    'backgroundImage: picture.png',
    'data: {x.yaml: "image: quay.io/acme/app:1"}',
    'mail: "me@registry.example/x"',
  ])('%s is nothing', async (text) => {
    expect(await mentions(`kind: Pod\n${text}\n`)).toEqual([]);
  });

  it('is told once, and not where it is taken anyway', async () => {
    const text = `a: quay.io/acme/app:1\nb: [quay.io/acme/app:1]\nc: quay.io/acme/b:1\nimage: quay.io/acme/b:1\n`;
    expect((await mentions(text)).map(({ value, place }) => [value, place])).toEqual([
      ['quay.io/acme/app:1', 'a'],
    ]);
  });
});
