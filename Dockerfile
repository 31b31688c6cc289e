# gvfs-mount in a container. It needs the FUSE device, and to be seen by the host a shared mount:
#
#   docker run --rm --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
#     --mount type=bind,source=/mnt,target=/mnt,bind-propagation=rshared \
#     gvfs images.example.org:/vm /mnt/vm

FROM node:20-bookworm AS build
WORKDIR /gvfs
COPY package.json package-lock.json .npmrc ./
RUN npm install --global npm@11 && npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY native-bindings native-bindings
RUN cd native-bindings && ../node_modules/.bin/node-gyp rebuild --nodedir=/usr/local
COPY src src
RUN node_modules/.bin/tsc -p tsconfig.build.json && npm prune --omit=dev

FROM node:20-bookworm-slim
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates fuse3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /gvfs/package.json /gvfs/
COPY --from=build /gvfs/node_modules /gvfs/node_modules
COPY --from=build /gvfs/native-bindings /gvfs/native-bindings
COPY --from=build /gvfs/dist /gvfs/dist
ENTRYPOINT ["node", "/gvfs/dist/cli/gvfs-mount.js", "-f"]
