/**
 * Every client pulls from every place a publication can lie: by tag and by digest, and what it has then is what was let in.
 * The two tables are fixtures/pull-clients.ts and SERVERS here.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUCKET_SERVERS } from '../../fixtures/bucket-servers.ts';
import { runSealift, succeeded } from '../../fixtures/cli.ts';
import { artifactImage, multiArchImage, schema2Image, signedImage } from '../../fixtures/images.ts';
import { describePeer, hasPeer, type Peer } from '../../fixtures/peers.ts';
import { PULL_CLIENTS, type PullClient } from '../../fixtures/pull-clients.ts';
import { startCaddyOver, startNginxOver, type WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/docker:v1': schema2Image(),
};
const artifacts = { 'quay.io/acme/signed:v1': signedImage(), 'ghcr.io/acme/chart:v1': artifactImage() };

interface Server {
  readonly title: string;
  readonly needs: readonly Peer[];
  start(world: Publishing, work: string): Promise<WebServer>;
}

const SERVERS: readonly Server[] = [
  {
    title: 'a directory behind nginx with suffixed files',
    needs: ['nginx'],
    start: ({ tree }, work) => startNginxOver(tree, work, 'suffixes'),
  },
  {
    title: 'a directory behind nginx with maps',
    needs: ['nginx'],
    start: ({ tree }, work) => startNginxOver(tree, work, 'maps'),
  },
  {
    title: 'a directory behind Caddy',
    needs: ['caddy'],
    start: ({ tree }, work) => startCaddyOver(tree, work),
  },
  ...BUCKET_SERVERS.map(
    (kind): Server => ({
      title: `a bucket of ${kind.title} behind nginx`,
      needs: kind.needs,
      async start(world, work) {
        const server = await kind.start(path.join(work, 's'));
        try {
          await server.makeBucket('images');
          const to = ['s3://images/reg', '--endpoint-url', server.endpoint];
          const env = { PATH: process.env['PATH'], HOME: work, ...server.credentials };
          succeeded(await runSealift(['sync', `store:${world.store}`, ...to], { env }), 'sync');
          const web = await server.serve(path.join(work, 'n'), 'images', 'reg');
          return {
            ...web,
            stop: async () => {
              await web.stop();
              await server.stop();
            },
          };
        } catch (error) {
          await server.stop();
          throw error;
        }
      },
    }),
  ),
];

/** Swift's paths become file names twice as long; its directory must be short. */
const work = mkdtempSync(path.join(os.tmpdir(), 'm'));
let world: Publishing;
const clients = new Map<string, PullClient>();

beforeAll(async () => {
  world = makePublishing();
  await world.admit({ ...images, ...artifacts });
  await world.sync();
});
afterAll(async () => {
  for (const client of clients.values()) await client.stop();
  await world.close();
  rmSync(work, { recursive: true, force: true });
});

describe.each(SERVERS.map((server, number) => ({ ...server, number })))('from $title', (server) => {
  let web: WebServer | undefined;
  const place = path.join(work, String(server.number));
  beforeAll(async () => {
    if (!server.needs.every(hasPeer)) return;
    mkdirSync(place);
    web = await server.start(world, place);
  });
  afterAll(() => web?.stop());

  for (const kind of PULL_CLIENTS) {
    describePeer([...server.needs, ...kind.needs], `${kind.title}, ${server.title}`, () => {
      const client = async (): Promise<PullClient> => {
        const running = clients.get(kind.title) ?? (await kind.start(path.join(work, `c${clients.size}`)));
        clients.set(kind.title, running);
        return running;
      };
      const wanted = Object.entries({ ...images, ...(kind.artifacts ? artifacts : {}) });
      it.each(wanted)('pulls %s by tag and by digest', async (name, { digest }) => {
        const { pull } = await client();
        const repository = `${web?.host}/${name.slice(0, name.lastIndexOf(':'))}`;
        expect(await pull(`${web?.host}/${name}`)).toContain(digest);
        expect(await pull(`${repository}@${digest}`)).toContain(digest);
      });
      it('is told what is not there', async () => {
        const missing = (await client()).pull(`${web?.host}/library/alpine:none`);
        await expect(missing).rejects.toThrow(/not found|unknown|404/i);
      });
    });
  }
});
