/**
 * The figures that the project holds itself to, a link at a time. A bar is a least value, a most
 * value, or a least share of a yardstick that was measured in the same run.
 */
import type { CaseName } from './cases.ts';

export type Yardstick = 'link' | 'nfs-cat' | 'nfsc';

export type Bar =
  | { readonly kind: 'at least'; readonly value: number }
  | { readonly kind: 'at most'; readonly value: number }
  | { readonly kind: 'share'; readonly value: number; readonly of: Yardstick };

const least = (value: number): Bar => ({ kind: 'at least', value });
const most = (value: number): Bar => ({ kind: 'at most', value });
const share = (value: number, of: Yardstick): Bar => ({ kind: 'share', value, of });

export const bars: Record<string, Partial<Record<CaseName, readonly Bar[]>>> = {
  loopback: {
    'first byte': [most(2)],
    'sequential read': [share(0.65, 'nfs-cat')],
    'random read, depth 1': [least(7000), share(0.6, 'nfsc')],
    'random read, depth 16': [least(15_000), share(0.6, 'nfsc')],
    'sequential write + fsync': [least(450)],
    'random write, each fsynced': [least(1900)],
    create: [least(1000)],
    'first stat after a listing': [least(20_000)],
    unlink: [least(1500)],
  },
  lan: {
    'first byte': [most(6)],
    'sequential read': [share(0.95, 'link')],
    'random read, depth 1': [least(650)],
    'random read, depth 16': [least(6000)],
    'sequential write + fsync': [share(0.75, 'link')],
    'random write, each fsynced': [least(210)],
  },
  wan: {
    'first byte': [most(3 * 35 + 10)],
    'sequential read': [share(0.95, 'link')],
    'random read, depth 1': [least(27)],
    'random read, depth 16': [least(430)],
    'sequential write + fsync': [share(0.65, 'link')],
    'random write, each fsynced': [least(13)],
  },
};

/** Whether `measured` is on the right side of the bar; undefined without its yardstick. */
export function reached(
  bar: Bar,
  measured: number,
  yardsticks: ReadonlyMap<Yardstick, number>,
): boolean | undefined {
  if (bar.kind === 'at most') return measured <= bar.value;
  if (bar.kind === 'at least') return measured >= bar.value;
  const whole = yardsticks.get(bar.of);
  return whole === undefined ? undefined : measured >= bar.value * whole;
}

export function barText(bar: Bar): string {
  if (bar.kind === 'share') return `${bar.value} of ${bar.of}`;
  return `${bar.kind === 'at least' ? '>=' : '<='} ${bar.value.toLocaleString('en')}`;
}
