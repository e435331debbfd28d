#!/usr/bin/env bash
# needs: crane
. "$(dirname "$0")/lib.sh"
export DOCKER_CONFIG=$SCRATCH
version "$(crane version)"
here=$REGISTRY/clients/crane

both "$SCRATCH/both"
crane push --index "$SCRATCH/both" "$here:both" >/dev/null 2>&1
crane push "$SCRATCH/both.amd64" "$here:one" >/dev/null 2>&1
digest=$(crane digest "$here:one")
same "the digest" "$digest" "$(digest_of "$SCRATCH/both.amd64")"
did "push of an image and of an index, digest"

for reference in "$here:both" "$here@$digest"; do
  crane pull --format oci "$reference" "$SCRATCH/pulled"
  crane pull --platform linux/amd64 "$reference" "$SCRATCH/pulled.tar"
  crane validate --tarball "$SCRATCH/pulled.tar" >/dev/null 2>&1
done
cmp <(crane manifest "$here@$digest") "$SCRATCH/both/blobs/sha256/${digest#sha256:}"
crane config "$here:one" | grep -q '"architecture":"amd64"'
did "pull as an OCI layout and as a tarball, manifest, config"

crane validate --remote "$here:both" >/dev/null 2>&1
crane validate --remote "$here:one" >/dev/null 2>&1
did "validate --remote"

crane copy "$here:both" "$here-copy:both" >/dev/null 2>&1
same "the digest of the copy" "$(crane digest "$here-copy:both")" "$(crane digest "$here:both")"
crane copy --all-tags "$here" "$here-all" >/dev/null 2>&1
same "the tags of the copy" "$(crane ls "$here-all" | sort | paste -sd' ')" "both one"
did "copy of a tag and of all tags"

random_layer "$SCRATCH/appended.tar" appended 1000000
crane append --base "$here:one" --new_layer "$SCRATCH/appended.tar" --new_tag "$here:appended" >/dev/null 2>&1
same "the layers" "$(crane manifest "$here:appended" | grep -o 'tar[^"]*","size\|"digest"' | grep -c digest)" 4
crane append --oci-empty-base --new_layer "$SCRATCH/appended.tar" --new_tag "$here:fresh" >/dev/null 2>&1
crane export "$here:fresh" - | tar -t | grep -qx appended
did "append to an image and to nothing, export"

crane mutate --label made=here --annotation kind=test --tag "$here:mutated" "$here:one" >/dev/null 2>&1
crane config "$here:mutated" | grep -q '"made":"here"'
crane tag "$here:mutated" second >/dev/null 2>&1
same "the digest of the second tag" "$(crane digest "$here:second")" "$(crane digest "$here:mutated")"
crane flatten --tag "$here:flat" "$here:appended" >/dev/null 2>&1
crane index append --manifest "$here:appended" --tag "$here:more" "$here:both" >/dev/null 2>&1
crane validate --remote "$here:more" >/dev/null 2>&1
did "mutate, tag, flatten, index append"

layer=$(crane manifest "$here:one" | grep -o '"digest":"sha256:[0-9a-f]*"' | sed -n 2p | cut -d'"' -f4)
same "the layer" "sha256:$(crane blob "$here@$layer" | sha256sum | cut -d' ' -f1)" "$layer"
did "blob"

same "the tags" "$(crane ls "$here" | sort | paste -sd' ')" "appended both flat fresh more mutated one second"
crane catalog "$REGISTRY" >"$SCRATCH/catalog"
for repository in clients/crane clients/crane-all clients/crane-copy; do grep -qx "$repository" "$SCRATCH/catalog"; done
did "ls, catalog"

crane delete "$here:second" >/dev/null 2>&1
refused "the tag that was deleted" "manifest_unknown" crane digest "$here:second"
crane digest "$here:mutated" >/dev/null
crane delete "$here@$(crane digest "$here:mutated")" >/dev/null 2>&1
refused "the tag of a manifest that was deleted" "manifest_unknown" crane digest "$here:mutated"
did "delete of a tag and of a digest"
