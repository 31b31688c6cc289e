/**
 * The ways to the kernel, loaded only when they are taken.
 */
import type { Settings } from '../config/options.ts';
import type { Transport } from '../fuse/transport.ts';

export async function loadTransport(name: Settings['transport']): Promise<Transport> {
  switch (name) {
    case 'native': {
      const { NativeTransport } = await import('../fuse/native-transport.ts');
      return new NativeTransport();
    }
    case 'fuse-native':
      throw new Error('not yet');
  }
}
