import { expect, it } from 'vitest';
import { createLimiter } from '../../../../core/transport/registry/limiter.ts';

const never = new AbortController().signal;

it('lets through as many as there are places, in order', async () => {
  const limiter = createLimiter(2);
  const order: number[] = [];
  const enter = async (number: number) => {
    const release = await limiter.acquire(never);
    order.push(number);
    return release;
  };
  const [first, , third] = [enter(1), enter(2), enter(3), enter(4)];
  const release = await first;
  expect(order).toEqual([1, 2]);
  release();
  release();
  await third;
  expect(order).toEqual([1, 2, 3]);
});

it('loses no place to one who gave up waiting', async () => {
  const limiter = createLimiter(1);
  const release = await limiter.acquire(never);
  const abort = new AbortController();
  const gaveUp = limiter.acquire(abort.signal);
  const next = limiter.acquire(never);
  abort.abort();
  await expect(gaveUp).rejects.toThrow();
  release();
  (await next)();
  await limiter.acquire(never);
});

it('lets nobody through who has been stopped', async () => {
  await expect(createLimiter(1).acquire(AbortSignal.abort())).rejects.toThrow();
});

it('lets the urgent through at once, and makes up for it', async () => {
  const limiter = createLimiter(1);
  const first = await limiter.acquire(never);
  const second = await limiter.acquire(never, true);
  let entered = false;
  const third = limiter.acquire(never).then((release) => {
    entered = true;
    return release;
  });
  first();
  await Promise.resolve();
  await Promise.resolve();
  expect(entered).toBe(false);
  second();
  await third;
});

it('gives places that nobody waits for to whoever can do without', async () => {
  const limiter = createLimiter(2);
  const first = await limiter.acquire(never);
  const spare = limiter.tryAcquire();
  expect(spare).toBeDefined();
  expect(limiter.hasIdle()).toBe(false);
  expect(limiter.tryAcquire()).toBeUndefined();
  const waiting = limiter.acquire(never);
  first();
  const release = await waiting;
  expect(limiter.tryAcquire()).toBeUndefined();
  spare?.();
  spare?.();
  expect(limiter.hasIdle()).toBe(true);
  release();
});
