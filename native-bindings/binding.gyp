# The addon of gvfs. Built from source by `node-gyp rebuild` in this folder, or taken from prebuilds/.
{
  'targets': [
    {
      'target_name': 'gvfs_native',
      'sources': [
        'src/addon.cc',
        'src/block_file.cc',
        'src/buffer_pool.cc',
        'src/channel.cc',
        'src/crc32c.cc',
        'src/device.cc',
        'src/files.cc',
        'src/mount.cc',
        'src/work_queue.cc',
      ],
      'defines': [
        'NAPI_VERSION=9',
        'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        '_GNU_SOURCE',
        '_FILE_OFFSET_BITS=64',
      ],
      # Other people's headers are system headers: their warnings are not ours to fix.
      'cflags': [
        "-isystem<!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")",
        '-O2', '-Wall', '-Wextra', '-Werror', '-fvisibility=hidden',
      ],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++14', '-fno-rtti'],
      'cflags_cc': ['-std=gnu++20', '-fno-exceptions'],
      'ldflags': ['-pthread'],
    },
  ],
}
