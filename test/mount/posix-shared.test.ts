import { posixOnAMount } from './posix-on-a-mount.ts';

posixOnAMount('the mount with a cache, shared', 'session=shared');
