#!/usr/bin/env bash
# needs: regctl
. "$(dirname "$0")/lib.sh"
export HOME=$SCRATCH REGCTL_CONFIG=$SCRATCH/config.json DOCKER_CONFIG=$SCRATCH
version "$(regctl version --format '{{.VCSTag}}')"
regctl registry set --tls disabled "$REGISTRY" 2>/dev/null
here=$REGISTRY/clients/regctl

both "$SCRATCH/both"
regctl image copy "ocidir://$SCRATCH/both@$(digest_of "$SCRATCH/both")" "$here:both" >/dev/null
same "the digest" "$(regctl image digest "$here:both")" "$(digest_of "$SCRATCH/both")"
regctl image copy "$here:both" "$here-copy:both" >/dev/null
regctl image copy "$here:both" "ocidir://$SCRATCH/copied:both" >/dev/null
cmp "$SCRATCH/copied/blobs/sha256/$(digest_of "$SCRATCH/both" | cut -d: -f2)" <(raw clients/regctl-copy both)
did "image copy to the registry, between repositories, and back"

regctl image export "$here:both" "$SCRATCH/exported.tar"
regctl image import "$here:imported" "$SCRATCH/exported.tar"
same "the digest of what was imported" "$(regctl image digest "$here:imported")" "$(regctl image digest "$here:both")"
regctl image mod --create modified --label made=here "$here:both" >/dev/null
regctl image inspect --platform linux/arm64 "$here:modified" | grep -q '"made"'
did "image export, import, mod, inspect"

head -c 1000000 /dev/urandom >"$SCRATCH/blob"
digest=$(regctl blob put "$here" <"$SCRATCH/blob")
cmp "$SCRATCH/blob" <(regctl blob get "$here" "$digest")
regctl registry set --blob-chunk 65536 --blob-max 131072 "$REGISTRY" 2>/dev/null
head -c 1000000 /dev/urandom >"$SCRATCH/blob"
digest=$(regctl blob put "$here" <"$SCRATCH/blob")
cmp "$SCRATCH/blob" <(regctl blob get "$here" "$digest")
regctl blob head "$here" "$digest" >/dev/null
regctl registry set --blob-chunk 0 --blob-max 0 "$REGISTRY" 2>/dev/null
head -c 100000 /dev/urandom >"$SCRATCH/blob"
regctl blob put --digest "sha512:$(sha512sum "$SCRATCH/blob" | cut -d' ' -f1)" "$here" <"$SCRATCH/blob" >"$SCRATCH/digest"
cmp "$SCRATCH/blob" <(regctl blob get "$here" "$(cat "$SCRATCH/digest")")
regctl blob copy "$here" "$here-copy" "$digest" 2>/dev/null
regctl blob delete "$here" "$digest"
refused "the blob that was deleted" "not found" regctl blob head "$here" "$digest"
regctl blob head "$here-copy" "$digest" >/dev/null
did "blob put whole, in chunks and with sha512, get, head, copy, delete"

printf 'a note' | regctl artifact put --artifact-type application/vnd.example.note --subject "$here:both" >/dev/null
printf 'a bill' | regctl artifact put --artifact-type application/vnd.example.bill --subject "$here:both" >/dev/null
printf 'a file' | regctl artifact put --artifact-type application/vnd.example.file "$here:file" >/dev/null
same "the artifact" "$(regctl artifact get "$here:file")" "a file"
same "the note" "$(regctl artifact get --subject "$here:both" --filter-artifact-type application/vnd.example.note)" "a note"
same "the referrers" "$(regctl artifact list "$here:both" --format '{{range .Descriptors}}{{println .ArtifactType}}{{end}}' | sort | paste -sd' ' | xargs)" \
  "application/vnd.example.bill application/vnd.example.note"
regctl artifact tree "$here:both" >"$SCRATCH/tree"
same "the artifacts in the tree" "$(grep -c 'vnd.example' "$SCRATCH/tree")" 2
regctl image copy --referrers "$here:both" "$here-copy:with" >/dev/null
regctl artifact tree "$here-copy:with" >"$SCRATCH/tree"
same "the artifacts in the tree of the copy" "$(grep -c 'vnd.example' "$SCRATCH/tree")" 2
did "artifact put, get, list, tree, and a copy with referrers"

regctl index create "$here:index" --ref "$here:both" --platform linux/arm64 >/dev/null
regctl manifest head "$here:index" >/dev/null
same "the tags" "$(regctl tag ls "$here" | paste -sd' ')" "both file imported index modified"
same "two tags of the list" "$(regctl tag ls "$here" --limit 2 | paste -sd' ')" "both file"
regctl repo ls "$REGISTRY" | grep -qx clients/regctl
did "index create, tag ls, repo ls"

regctl tag delete "$here:imported"
refused "the tag that was deleted" "not found" regctl manifest head "$here:imported"
regctl manifest head "$here:both" >/dev/null
regctl manifest delete "$here@$(regctl image digest "$here:modified")"
refused "the manifest that was deleted" "not found" regctl manifest head "$here:modified"
did "tag delete, manifest delete"
