#!/usr/bin/env bash
# needs: buildah
# needs root
. "$(dirname "$0")/lib.sh"
version "$(buildah --version | cut -d' ' -f3)"
# Storage of its own, with nothing that needs a kernel module.
buildah() { command buildah --root "$SCRATCH/root" --runroot "$SCRATCH/runroot" --storage-driver vfs "$@"; }
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >"$SCRATCH/policy.json"
here=$REGISTRY/clients/buildah

# build NAME ARCHITECTURE
build() {
  local container
  container=$(buildah from --arch "$2" scratch)
  head -c 3000000 /dev/urandom >"$SCRATCH/payload-$2"
  buildah add --quiet "$container" "$SCRATCH/payload-$2" /payload >/dev/null
  buildah config --label "made=$1" "$container"
  buildah commit --quiet --signature-policy "$SCRATCH/policy.json" --rm "$container" "$1" >/dev/null
}
push() { buildah push --quiet --tls-verify=false --signature-policy "$SCRATCH/policy.json" "$@"; }
pull() { buildah pull --quiet --tls-verify=false --signature-policy "$SCRATCH/policy.json" "$@"; }

build one amd64
push one "docker://$here:gzip"
push --format v2s2 one "docker://$here:docker"
raw clients/buildah gzip | grep -q 'tar+gzip' || fail "no layer is compressed with gzip"
did "push as OCI and as Docker schema 2"

build two amd64
push --compression-format zstd two "docker://$here:zstd"
raw clients/buildah zstd | grep -q 'tar+zstd' || fail "no layer is compressed with zstd"
did "push with zstd"

id=$(buildah inspect --type image --format '{{.FromImageID}}' two)
buildah rmi --all --force >/dev/null
same "the image pulled" "$(pull "$here:zstd")" "$id"
pull "$here:gzip" >/dev/null
container=$(buildah from --tls-verify=false --signature-policy "$SCRATCH/policy.json" "$here:docker")
mounted=$(buildah mount "$container")
[ "$(stat -c %s "$mounted/payload")" = 3000000 ] || fail "the payload is not there"
did "pull, and from a pulled image"

build arm arm64
buildah manifest create list >/dev/null
buildah manifest add list "$here:gzip" --tls-verify=false >/dev/null
buildah manifest add list arm >/dev/null
buildah manifest push --quiet --all --tls-verify=false --signature-policy "$SCRATCH/policy.json" list "docker://$here:list" >/dev/null
same "the architectures" "$(raw clients/buildah list | grep -o '"architecture":"[a-z0-9]*"' | sort | paste -sd' ')" \
  '"architecture":"amd64" "architecture":"arm64"'
did "manifest push of two architectures"
