/**
 * The ways to the kernel, loaded only when they are taken.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { Settings } from '../config/options.ts';
import { loadBinding } from '../fuse/binding.ts';
import type { MountError, Transport } from '../fuse/transport.ts';

/** The error says what is missing for it on this machine, and what to do. */
export async function loadTransport(
  name: Settings['transport'],
): Promise<Result<Transport, MountError>> {
  switch (name) {
    case 'native': {
      const addon = loadBinding();
      if (!addon.ok) {
        const message = `${addon.error}, or mount with --transport=fuse-native`;
        return err({ code: 'NO_ADDON', message });
      }
      const { NativeTransport } = await import('../fuse/native-transport.ts');
      return ok(new NativeTransport());
    }
    case 'fuse-native': {
      const { FuseNativeTransport } = await import('../fuse/fuse-native-transport.ts');
      return ok(new FuseNativeTransport());
    }
  }
}
