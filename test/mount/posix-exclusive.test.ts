import { posixOnAMount } from './posix-on-a-mount.ts';

posixOnAMount('the mount with a cache, exclusive', 'session=exclusive');
