#!/usr/bin/env bash
# needs: ko go crane
. "$(dirname "$0")/lib.sh"
export DOCKER_CONFIG=$SCRATCH
version "$(ko version)"
here=$REGISTRY/clients/ko

# The base comes from this registry too, for two platforms.
both "$SCRATCH/base"
cp "$SCRATCH/base/blobs/sha256/$(digest_of "$SCRATCH/base" | cut -d: -f2)" "$SCRATCH/base/index.json"
crane push --index "$SCRATCH/base" "$here/base:one" >/dev/null 2>&1
export KO_DOCKER_REPO=$here KO_DEFAULTBASEIMAGE=$here/base:one KOCACHE=$SCRATCH/cache

mkdir -p "$SCRATCH/app"
cd "$SCRATCH/app" || exit
printf 'module example.com/app\n\ngo 1.26\n' >go.mod
printf 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n' >main.go
ko build --bare --tags one,two --platform linux/amd64 . >"$SCRATCH/built" 2>"$SCRATCH/ko.log"
same "the digest" "$(crane digest "$here:two")" "$(grep -o 'sha256:[0-9a-f]*' "$SCRATCH/built")"
crane export "$here:one" - | tar -x -C "$SCRATCH" /ko-app/app 2>/dev/null
same "what the program says" "$("$SCRATCH/ko-app/app")" hello
# ko stores a bill of materials beside the image, under a tag made of its digest.
crane ls "$here" | grep -q '^sha256-.*\.sbom$' || fail "the bill of materials is not there"
did "build and push under two tags, with its bill of materials"

ko build --preserve-import-paths --platform all --sbom none . >"$SCRATCH/built" 2>>"$SCRATCH/ko.log"
same "the platforms" "$(crane manifest "$(cat "$SCRATCH/built")" | grep -o '"architecture":"[a-z0-9]*"' | sort | paste -sd' ')" \
  '"architecture":"amd64" "architecture":"arm64"'
did "build for all platforms of the base"

printf 'image: ko://example.com/app\n' >app.yaml
ko resolve --base-import-paths --platform linux/amd64 --sbom none -f app.yaml >"$SCRATCH/resolved" 2>>"$SCRATCH/ko.log"
crane digest "$(sed -n 's/^image: //p' "$SCRATCH/resolved")" >/dev/null
did "resolve"
