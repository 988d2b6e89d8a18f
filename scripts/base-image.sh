#!/usr/bin/env bash
# Makes an equal of docker.io/library/debian:trixie-slim as an OCI image layout in DIR, with mmdebstrap, for machines that
# cannot reach the Hub. The same package state gives the same digest: times are clamped and nothing of this host goes in.
# With --keep an existing layout is left as it is. Text for people goes to stderr; stdout has the manifest's digest.
set -euo pipefail

keep=
if [ "${1:-}" = --keep ]; then keep=1; shift; fi
[ $# -eq 1 ] || { echo "usage: $0 [--keep] DIR" >&2; exit 64; }
dir=$1
suite=trixie

digest_of_layout() { sed -n 's/.*"digest":"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$1/index.json"; }

if [ -n "$keep" ] && [ -f "$dir/index.json" ]; then
	digest_of_layout "$dir"
	exit 0
fi
command -v mmdebstrap >/dev/null || { echo "base-image: mmdebstrap is missing; scripts/setup.sh installs it" >&2; exit 4; }

mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$(dirname "$dir")/.base-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/layout/blobs/sha256"

# 2025-01-01: any fixed moment serves; files newer than it are clamped to it.
export SOURCE_DATE_EPOCH=1735689600
export LC_ALL=C.UTF-8

echo "base-image: making debian:$suite-slim with mmdebstrap (about 40 s)" >&2
# The exclusions are those of the Hub's slim images; they stay in force for what is installed later.
if ! mmdebstrap --variant=minbase --quiet --format=tar \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/groff/*' \
	--dpkgopt='path-exclude=/usr/share/lintian/*' \
	--dpkgopt='path-exclude=/usr/share/linda/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--aptopt='Acquire::Languages "none"' \
	--aptopt='Acquire::GzipIndexes "true"' \
	--aptopt='APT::AutoRemove::SuggestsImportant "false"' \
	--customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' \
	"$suite" "$work/rootfs.tar" 2>"$work/log"; then
	cat "$work/log" >&2
	exit 4
fi

# put FILE: moves a file among the blobs and says `sha256:<hex> <bytes>`.
put() {
	local hex
	hex=$(sha256sum "$1" | cut -d' ' -f1)
	local size
	size=$(stat -c %s "$1")
	mv "$1" "$work/layout/blobs/sha256/$hex"
	printf 'sha256:%s %s\n' "$hex" "$size"
}

arch=$(dpkg --print-architecture)
diff_id=sha256:$(sha256sum "$work/rootfs.tar" | cut -d' ' -f1)
gzip -n -6 "$work/rootfs.tar"
read -r layer layer_size < <(put "$work/rootfs.tar.gz")

created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
printf '{"architecture":"%s","os":"linux","created":"%s","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["bash"]},"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{"created":"%s","created_by":"mmdebstrap %s"}]}' \
	"$arch" "$created" "$diff_id" "$created" "$suite" >"$work/config.json"
read -r config config_size < <(put "$work/config.json")

printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%s}]}' \
	"$config" "$config_size" "$layer" "$layer_size" >"$work/manifest.json"
read -r manifest manifest_size < <(put "$work/manifest.json")

printf '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"%s-slim"}}]}\n' \
	"$manifest" "$manifest_size" "$arch" "$suite" >"$work/layout/index.json"

# The old layout goes only when the new one is whole.
if [ -e "$dir" ]; then mv "$dir" "$work/old"; fi
mv "$work/layout" "$dir"
digest_of_layout "$dir"
