#!/usr/bin/env bash
# needs: skopeo
. "$(dirname "$0")/lib.sh"
version "$(skopeo --version | cut -d' ' -f3)"
skopeo() { command skopeo --insecure-policy "$@"; }
here="docker://$REGISTRY/clients/skopeo"
# Every byte is fetched, and checked against its digest.
pull() {
  rm -rf "$SCRATCH/pulled"
  skopeo copy --quiet --all --src-tls-verify=false "$1" "dir:$SCRATCH/pulled"
}
tags() { skopeo list-tags --tls-verify=false "$1" | grep -o '^  *"[^"]*",\?$' | tr -dc 'a-z0-9.,\n-' | paste -sd' ' | tr -d ,; }

layout "$SCRATCH/one" amd64
skopeo copy --quiet --dest-tls-verify=false "oci:$SCRATCH/one" "$here:one"
raw clients/skopeo one >"$SCRATCH/manifest"
for reference in "$here:one" "$here@sha256:$(sha256 "$SCRATCH/manifest")"; do
  pull "$reference"
  cmp "$SCRATCH/pulled/manifest.json" "$SCRATCH/manifest"
done
did "copy to and from the registry by tag and by digest"

both "$SCRATCH/both"
skopeo copy --quiet --all --preserve-digests --dest-tls-verify=false "oci:$SCRATCH/both" "$here:both"
pull "$here@$(digest_of "$SCRATCH/both")"
same "the number of images pulled" "$(find "$SCRATCH/pulled" -name '*.manifest.json' | wc -l)" 2
did "copy --all of two architectures"

skopeo copy --quiet --all --src-tls-verify=false --dest-tls-verify=false "$here:both" "$here-again:both"
cmp <(raw clients/skopeo-again both) <(raw clients/skopeo both)
did "copy between repositories"

skopeo copy --quiet --format v2s2 --dest-tls-verify=false "oci:$SCRATCH/one" "$here:docker"
raw clients/skopeo docker | grep -q 'application/vnd.docker.distribution.manifest.v2+json' || fail "it is no Docker manifest"
# Of layers that the registry has not seen, for skopeo sends none anew only because it would compress it.
layout "$SCRATCH/new" amd64
skopeo copy --quiet --dest-compress --dest-compress-format zstd --dest-tls-verify=false "oci:$SCRATCH/new" "$here:zstd"
raw clients/skopeo zstd | grep -q 'tar+zstd' || fail "no layer is compressed with zstd"
pull "$here:docker"
pull "$here:zstd"
did "copy as Docker schema 2 and with zstd"

skopeo inspect --tls-verify=false "$here:one" >"$SCRATCH/inspect"
grep -q '"Architecture": "amd64"' "$SCRATCH/inspect" || fail "inspect says $(cat "$SCRATCH/inspect")"
skopeo inspect --tls-verify=false --config --raw "$here:one" | grep -q '"architecture":"amd64"'
cmp <(skopeo inspect --tls-verify=false --raw "$here:one") "$SCRATCH/manifest"
did "inspect"

same "the list of tags" "$(tags "$here")" "both docker one zstd"
did "list-tags"

rm -rf "$SCRATCH/synced"
skopeo sync --all --src docker --dest dir --src-tls-verify=false "$REGISTRY/clients/skopeo" "$SCRATCH/synced" >"$SCRATCH/sync" 2>&1
same "the number of images synced" "$(find "$SCRATCH/synced" -maxdepth 1 -mindepth 1 | wc -l)" 4
skopeo sync --all --src dir --dest docker --dest-tls-verify=false "$SCRATCH/synced" "$REGISTRY/clients/skopeo-synced" >"$SCRATCH/sync" 2>&1
same "the tags of what was synced" "$(tags "$here-synced/skopeo")" "both docker one zstd"
cmp <(raw clients/skopeo-synced/skopeo both) <(raw clients/skopeo both)
skopeo sync --all --src docker --dest docker --src-tls-verify=false --dest-tls-verify=false \
  "$REGISTRY/clients/skopeo" "$REGISTRY/clients/skopeo-mirror" >"$SCRATCH/sync" 2>&1
same "the tags of the mirror" "$(tags "$here-mirror/skopeo")" "both docker one zstd"
did "sync to a directory, from it, and between repositories"

skopeo delete --tls-verify=false "$here:one"
refused "what was deleted" "manifest unknown" skopeo inspect --tls-verify=false "$here:one"
same "the tags after the delete" "$(tags "$here")" "both docker zstd"
skopeo copy --quiet --dest-tls-verify=false "oci:$SCRATCH/one" "$here:one"
pull "$here:one"
did "delete, and copy again"
