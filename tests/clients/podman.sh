#!/usr/bin/env bash
# needs: podman
# needs root
. "$(dirname "$0")/lib.sh"
version "$(podman --version | cut -d' ' -f3)"
podman() {
  command podman --root "$SCRATCH/root" --runroot "$SCRATCH/runroot" --storage-driver vfs --tmpdir "$SCRATCH/tmp" "$@"
}
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >"$SCRATCH/policy.json"
here=$REGISTRY/clients/podman
push() { podman push --quiet --tls-verify=false --signature-policy "$SCRATCH/policy.json" "$@"; }
pull() { podman pull --quiet --tls-verify=false --signature-policy "$SCRATCH/policy.json" "$@"; }

# import NAME
import() {
  random_layer "$SCRATCH/rootfs.tar" payload 3000000
  podman import --quiet "$SCRATCH/rootfs.tar" "$1" >/dev/null
}

import one
push one "$here:gzip"
push --format v2s2 one "$here:docker"
did "push as OCI and as Docker schema 2"

import two
id=$(podman image inspect --format '{{.Id}}' two)
push --compression-format zstd --digestfile "$SCRATCH/digest" two "$here:zstd"
raw clients/podman zstd | grep -q 'tar+zstd' || fail "no layer is compressed with zstd"
did "push with zstd"

podman rmi --all --force >/dev/null
same "the image pulled by tag" "$(pull "$here:zstd")" "$id"
podman rmi --all --force >/dev/null
same "the image pulled by digest" "$(pull "$here@$(cat "$SCRATCH/digest")")" "$id"
pull "$here:gzip" >/dev/null
pull "$here:docker" >/dev/null
did "pull by tag and by digest"

same "the tags" "$(podman search --tls-verify=false --list-tags "$here" | awk 'NR > 1 { print $2 }' | paste -sd' ')" "docker gzip zstd"
did "search --list-tags"
