#!/usr/bin/env bash
# Renews examples/app/recipe.json, what the layer `rust-deps` cooks, after the service's dependencies changed.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(sed -n 's/^ARG CHEF_VERSION=//p' "$repo/lamina/rust/Dockerfile")
dir=${XDG_CACHE_HOME:-$HOME/.cache}/lian-build/tools/cargo-chef-$version

# The layer's own version: another one may write another recipe.
if [ ! -x "$dir/bin/cargo-chef" ]; then
	echo "recipe: installing cargo-chef $version (about a minute, once)" >&2
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_TARGET_DIR="$dir/target" \
		cargo install --quiet --locked --root "$dir" "cargo-chef@$version" >&2
	rm -rf "$dir/target"
fi
cd "$repo/examples/app"
cargo update --workspace --quiet
"$dir/bin/cargo-chef" chef prepare --recipe-path recipe.json
git diff --stat -- recipe.json Cargo.lock
