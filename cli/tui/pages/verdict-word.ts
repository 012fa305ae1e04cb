import type { Verdict } from '../../../core/results.ts';
import type { Style } from '../../output/style.ts';

const KINDS: Readonly<Record<Verdict, 'pass' | 'attention' | 'fail'>> = {
  verified: 'pass',
  carried: 'attention',
  unsigned: 'fail',
  invalid: 'fail',
  expired: 'fail',
};

/** Symbol and word; the colour only says it again. */
export function verdictWord(verdict: Verdict, style: Style): string {
  const kind = KINDS[verdict];
  const paint = kind === 'pass' ? style.good : kind === 'fail' ? style.bad : style.warn;
  return `${style[kind]} ${paint(verdict)}`;
}
